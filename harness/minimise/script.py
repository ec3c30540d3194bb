"""A script of plain PyTorch that trains serially and in parallel, and exits with 1 where they differ."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from harness.errors import SpecError
from harness.minimise import torch_code
from harness.minimise.shrink import Difference, difference, divergence
from harness.record import Divergence, Verdict
from harness.spec import Case, Workload
from harness.strategies import base as strategies
from harness.strategies.standalone import PLAIN_UPDATE, Standalone

# A bug report with more is not read.
MOST_LINES = 60
WIDTH = 120
# Where a case differs in one of these, parameters may be left out.
_BEFORE_UPDATE = ("data order", "loss", "gradients before clipping", "gradients after clipping")
# Float64 leaves rounding at 1e-15 of a tensor's size, float32 at 1e-7; bugs lie far beyond either.
_TOLERANCES = {"float64": "1e-9", "float32": "1e-4"}
Place = Literal["wrapped", "samples", "loss", "gradients", "update"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutation:
    """A bug in the parallel training of a script.

    ``code`` are statements after the wrapping, after ``own`` samples are chosen, before gradients are read or before
    the update; or another expression of the loss, which serial training takes, too.
    """

    place: Place
    code: str


def standalone(case: Case, workload: Workload, verdict: Verdict, mutation: Mutation | None = None) -> str:
    """Return a script of at most 60 lines that shows in what the case differs, with its framework and library alone.

    It draws weights and images of its own, of the case's shapes, and prints the first quantity that differs with sizes.

    Raises:
        SpecError: there is no script for this strategy, or for something that the case needs; it says why.
    """
    strategy = strategies.get(case.strategy)
    found = difference(verdict)
    groups = {"plain": 1, "per-micro-batch-batchnorm": strategy.groups(case.world_size, strategy.chosen)}
    why = _refusal(case, workload, found, groups)
    if why:
        raise SpecError(f"no standalone script for {case.strategy}: {why}")
    assert found is not None, "what does not differ is refused"
    assert strategy.standalone is not None, "without it there is no script"
    own = strategy.standalone(strategy.chosen)
    begin = f"{_head(case, verdict, own)}\n\n{_settings(case, workload)}"
    for after_update in (True, False) if found.rung in _BEFORE_UPDATE else (True,):
        train = _train(workload, own, groups[found.reference], mutation, after_update=after_update)
        script = "\n\n\n".join((begin, train, _compare(own))) + "\n"
        if script.count("\n") <= MOST_LINES:
            return script
    raise SpecError(
        f"no standalone script for {case.strategy}: expected at most {MOST_LINES} lines but it would take "
        f"{len(script.splitlines())}; fewer samples or layers take fewer"
    )


def _refusal(case: Case, workload: Workload, found: Difference | None, references: Collection[str]) -> str | None:
    """Return why there is no script, or None."""
    if strategies.get(case.strategy).standalone is None:
        return "its declaration does not say, in `standalone`, how plain code uses it"
    if found is None:
        return "it does not differ"
    if case.device != "cpu":
        return f"scripts run on the CPU, not on {case.device}"
    if found.reference not in references:
        return f"a short one cannot train the reference {found.reference!r}"
    what = torch_code.refusal(workload)
    return f"a short one cannot show {what}" if what else None


def _head(case: Case, verdict: Verdict, own: Standalone) -> str:
    """Return docstring and imports."""
    first, found = divergence(verdict), difference(verdict)
    assert found is not None
    where = f" in {place(first)}" if first else ""
    serial = "serial training" if found.reference == "plain" else f"serial training ({found.reference})"
    said = f"{case.strategy} on {case.world_size} ranks differs from {serial}{where}."
    imports = sorted(["import torch", "from torch import nn", *own.imports.splitlines()], key=_as_isort_does)
    standard = [line for line in imports if line == "import itertools"]
    standard += ["import sys", *(["import tempfile"] if own.launch == "spawn" else [])]
    lines = textwrap.wrap(f'"""{said}', WIDTH)
    lines += [
        "",
        f'Run: python FILE (torch {version("torch")}). It exits with 1 where they differ, with 0 where not."""',
        "",
        *standard,
        "",
    ]
    return "\n".join([*lines, *(line for line in imports if line not in standard)])


def place(first: Divergence) -> str:
    """Return in words where in the ladder a case differs first."""
    tensor = "" if first.tensor == first.rung else f" of {first.tensor}"
    return f"{first.rung}{tensor} at step {first.step}"


def _as_isort_does(line: str) -> tuple[bool, str]:
    return line.startswith("from "), line.lower()


def _settings(case: Case, workload: Workload) -> str:
    kind, arguments = torch_code.optimizer(workload.optimizer)
    steps = torch_code.steps(workload)
    constant = len({rate for rate, _ in steps}) == 1
    told = [samples for _, samples in steps] if constant else steps
    number = 1 + max(sample for _, samples in steps for sample in samples)
    dtype, draw = workload.check.dtype, f"generator=torch.Generator().manual_seed({workload.seed})"
    named = f"{'' if constant else 'learning rate and '}samples of each step"
    lines = [
        f"RANKS, DTYPE, TOLERANCE = {case.world_size}, torch.{dtype}, {_TOLERANCES[dtype]}",
        f"OPTIMIZER, SETTINGS = {kind}, {arguments}",
        *_wrapped(f"STEPS = {told}", f"  # {named}"),
        f"IMAGES = torch.randn({number}, {', '.join(map(str, workload.shape))}, dtype=DTYPE, {draw})",
        f"LABELS = torch.arange({number}) % {workload.num_classes}",
    ]
    return "\n".join(lines)


def _wrapped(statement: str, comment: str = "") -> list[str]:
    """Return a statement in lines that are not too long; the comment where there is room."""
    if len(statement + comment) <= WIDTH:
        return [statement + comment]
    return textwrap.wrap(statement, WIDTH - 8, subsequent_indent="    ")


def _model(workload: Workload) -> list[str]:
    """Return statements that make the same ``model`` everywhere."""
    layers = f"model = nn.Sequential({', '.join(torch_code.modules(workload))}).to(DTYPE)"
    return [f"torch.manual_seed({workload.seed})", *_wrapped(layers), *torch_code.after_building(workload)]


def _train(
    workload: Workload, own: Standalone, num_groups: int, mutation: Mutation | None, *, after_update: bool
) -> str:
    """Return the training, which is a rank's where there are several; parameters are compared if there is room."""
    at: Mapping[Place, Sequence[str]] = {mutation.place: mutation.code.splitlines()} if mutation else {}
    rates = len({rate for rate, _ in torch_code.steps(workload)}) > 1
    clips = workload.clip_norm is not None or workload.clip_value is not None
    step = [
        *(['optimizer.param_groups[0]["lr"] = rate'] if rates else []),
        "optimizer.zero_grad()",
        *_forward_and_backward(workload, own, num_groups, at),
        *_if_parallel([*own.total.splitlines(), *own.synchronise.splitlines(), *at.get("gradients", [])]),
        'seen[step, "loss", "of the batch"] = loss.clone()',
        _seen(own, "gradient", "p.grad"),
        *([torch_code.clipping(workload), _seen(own, "clipped", "p.grad")] if clips else []),
        *_if_parallel(at.get("update", [])),
        *_update(own),
        *([_seen(own, "parameter", "p")] if after_update else []),
    ]
    if after_update and any("BatchNorm" in module for module in torch_code.modules(workload)):
        step.append('seen |= {(step, "buffer", n): b.double().clone() for n, b in model.named_buffers()}')
    spawned = own.launch == "spawn"
    body = [
        *_model(workload),
        "module, optimizer, seen = model, OPTIMIZER(model.parameters(), **SETTINGS), {}",
        *_if_parallel([*_JOIN[own.launch].splitlines(), *own.wrap.splitlines(), *at.get("wrapped", [])]),
        "trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]",
        f"for step, {'(rate, batch)' if rates else 'batch'} in enumerate(STEPS):",
        *_indented(step),
        'torch.save(seen, f"{folder}/{rank}-of-{ranks}")' if spawned else "return seen",
    ]
    meaning = f"Train on this rank's samples; {'write' if spawned else 'return'} what every step computed."
    return _function(f"train(rank, ranks{', folder' if spawned else ''})", meaning, body)


def _forward_and_backward(
    workload: Workload, own: Standalone, num_groups: int, at: Mapping[Place, Sequence[str]]
) -> list[str]:
    """Return statements that leave gradients and ``loss``: in one piece, or in several where the case needs it."""
    scale = " * ranks" if own.shares else ""
    (loss,) = at.get(
        "loss", [f'nn.functional.cross_entropy(module(IMAGES[own]), LABELS[own], reduction="sum"){scale} / len(batch)']
    )
    one = [f"loss = {loss}", "loss.backward()", "loss = loss.detach()"]
    if own.backward:
        apart = [*at.get("samples", []), *own.backward.splitlines()]
        branches = ["if ranks == 1:", *_indented(one[:2]), "else:", *_indented(apart)]
        return ["own = torch.tensor(batch)", *branches, one[2]]
    share = ".tensor_split(ranks)[rank]" if own.shares else ""
    if workload.accumulation == 1 and num_groups == 1:
        return [f"own = torch.tensor(batch){share}", *_if_parallel(at.get("samples", [])), *one]
    pieces = f"[torch.tensor(batch){share}]"
    if workload.accumulation > 1:
        pieces = f"[micro{share} for micro in torch.tensor(batch).tensor_split({workload.accumulation})]"
    if num_groups > 1:
        pieces = f"torch.tensor(batch).chunk({num_groups}) if ranks == 1 else {pieces}"
    loop = [*_if_parallel(at.get("samples", [])), f"part = {loss}", "part.backward()", "loss += part.detach()"]
    return ["loss = torch.zeros((), dtype=DTYPE)", f"for own in {pieces}:", *_indented(loop)]


def _update(own: Standalone) -> list[str]:
    if own.update == PLAIN_UPDATE:
        return [own.update]
    return [*_if_parallel(own.update.splitlines()), "else:", f"    {PLAIN_UPDATE}"]


def _seen(own: Standalone, kind: str, expression: str) -> str:
    kept = own.whole.format(expression)
    return f'seen |= {{(step, "{kind}", n): {kept} for n, p in trained}}'


def _if_parallel(lines: Iterable[str]) -> list[str]:
    inner = _indented(lines)
    return ["if ranks > 1:", *inner] if inner else []


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _function(signature: str, meaning: str, body: Iterable[str]) -> str:
    return "\n".join([f"def {signature}:", f'    """{meaning}"""', *_indented(body)])


_JOIN = {
    "spawn": 'torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)',
    "one": "",
    "horovod": "hvd.init()\nrank = hvd.rank()",
}
_FOUND = {
    "spawn": """with tempfile.TemporaryDirectory() as folder:
    torch.multiprocessing.start_processes(train, (RANKS, folder), RANKS, start_method="fork")
    train(0, 1, folder)
    found = [torch.load(f"{folder}/{rank}-of-{RANKS}") for rank in range(RANKS)]
    serial = torch.load(f"{folder}/0-of-1")""",
    "one": "found, serial = [train(0, RANKS)], train(0, 1)",
    "horovod": "found, serial = horovod.run(train, (0, RANKS), np=RANKS, use_gloo=True), train(0, 1)",
}
_COMPARED = """for at, right in serial.items():
    away = max(float((seen[at] - right).norm()) for seen in found if at in seen)
    size = max(float(value.norm()) for other, value in serial.items() if other[:2] == at[:2])
    if not away <= TOLERANCE * size:
        sys.exit(f"DIFFERENT: step {at[0]}, {at[1]} {at[2]}: |parallel - serial| {away:.3g}, |serial| {size:.3g}")
print("EQUAL")"""


def _compare(own: Standalone) -> str:
    lines = [*_FOUND[own.launch].splitlines(), *_COMPARED.splitlines()]
    return "\n".join(['if __name__ == "__main__":', *_indented(lines)])
