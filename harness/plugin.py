"""The pytest plugin: options, markers, fixtures, parametrisation and records."""

from __future__ import annotations

import contextlib
import shlex
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from harness import cases, journalist, options, progress, workloads
from harness.cases import Offer
from harness.errors import HarnessError, MissingRequirementError
from harness.measure import lease, machine
from harness.record import Timing, Verdict
from harness.runner import Runner
from harness.session import Harness, Run, record
from harness.spec import Case, Workload
from harness.strategies import base as strategies

MARKERS = {
    "conformance": "does the parallel run compute what the serial run computes?",
    "performance": "how much faster is it? (alone on the machine)",
    "faults": "injected bugs that must be caught",
    "study": "a published comparison, run again",
    "smoke": "two ranks on the CPU, in a minute",
    "slurm": "needs a Slurm allocation",
    "slow": "the full matrix; not in the everyday run",
    "cpu": "uses no GPU",
    "parity": "parity(strategy, workload, world_size=2, device='cpu'): judge this case; ask for the fixture `verdict`",
    **{f"gpu{n}": f"uses {n} physical GPU{'s' * (n > 1)}" for n in (1, 2, 3, 4, 8)},
}
HARNESS = pytest.StashKey[Harness]()
RUN = pytest.StashKey[Run]()
OUTCOME = pytest.StashKey[str]()
_TIMED = ("timing", "accuracy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ``--ls-*`` options."""
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Find every strategy, register the markers, and take up the options."""
    try:
        strategies.discover()
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    for strategy in strategies.strategies().values():
        for name in (strategy.framework, *strategy.markers):
            config.addinivalue_line("markers", f"{name}: cases of this framework or library")
    own = options.read(config)
    found = machine.cuda_devices() if own.num_gpus_required else 0
    if found < own.num_gpus_required:
        raise pytest.UsageError(f"--ls-require-gpus {own.num_gpus_required}: found {found} CUDA devices")
    config.stash[HARNESS] = Harness(own)
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(journalist.Journalist(config, own, asked=_asked(config)), "lockstep-journalist")
        config.pluginmanager.register(progress.Progress(config), "lockstep-progress")
        # A supervisor's SIGTERM ends the run as Ctrl-C does: ranks killed, report written.
        with contextlib.suppress(ValueError):  # pytest.main() off the main thread: its caller minds the signals
            signal.signal(signal.SIGTERM, _terminate)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End every rank of this session."""
    if HARNESS in config.stash:
        config.stash[HARNESS].close()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Share the run and its scratch folder with a worker of pytest-xdist."""
    harness = node.config.stash[HARNESS]
    node.workerinput["lockstep"] = {"run": harness.options.run, "scratch": str(harness.scratch)}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the cases of one framework on one worker, so that each framework is imported once."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadGroupScheduling

    return LoadGroupScheduling(config, log)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test that asks for a case all cases of its suite, or the one its ``parity`` marker names."""
    if "ls_offer" not in metafunc.fixturenames:
        return
    timed = any(name in metafunc.fixturenames for name in _TIMED)
    suite: cases.Suite = "performance" if timed else "conformance"
    marker = metafunc.definition.get_closest_marker("parity")
    selection = metafunc.config.stash[HARNESS].options.selection
    try:
        offers = [_marked(marker, selection)] if marker else list(cases.offers(selection, suite))
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    metafunc.parametrize("ls_offer", [_param(offer, suite) for offer in offers], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config) -> None:
    """Stop, once, where a strategy or workload was asked for that no file registers; conftests are loaded by now."""
    try:
        config.stash[HARNESS].options.selection.validate()
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let nothing else of Lockstep run on this machine while a case is timed."""
    timed = any(name in getattr(item, "fixturenames", ()) for name in _TIMED)
    if not timed and _offer(item) is None and not hasattr(item.config, "workerinput"):
        return (yield)
    tell = item.config.pluginmanager.get_plugin("terminalreporter")
    on_wait = tell.write_line if tell else None
    held = lease.exclusive(label=item.nodeid, on_wait=on_wait) if timed else lease.shared(on_wait=on_wait)
    with held:
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Pack what is known of the case into the last report of its test."""
    report = yield
    offer = _offer(item)
    if offer is None:
        return report
    if report.when != "teardown":
        if not report.passed:
            item.stash[OUTCOME] = _why(report, call)
        return report
    done = item.stash.get(RUN, None)
    packed = record(
        item.config.stash[HARNESS],
        offer,
        done=done,
        failure=item.stash.get(OUTCOME, None),
        test=item.nodeid,
        command=f"pytest {shlex.quote(item.nodeid)}",
    )
    report.lockstep = journalist.pack(packed)  # type: ignore[attr-defined]
    return report


@pytest.fixture
def ls_offer(request: pytest.FixtureRequest) -> Offer:
    """The case of this test with all that belongs to it."""
    offer: Offer = request.param
    return offer


@pytest.fixture
def ls_runner(request: pytest.FixtureRequest) -> Runner:
    """Runs any case, also with a workload or a fault of one's own."""
    return request.config.stash[HARNESS].runner


@pytest.fixture
def run(ls_offer: Offer, request: pytest.FixtureRequest) -> Iterator[Run]:
    """The case of this test, to be judged and timed on demand."""
    own = Run(harness=request.config.stash[HARNESS], offer=ls_offer)
    request.node.stash[RUN] = own
    with _errors_in_words():
        yield own


@pytest.fixture
def case(run: Run) -> Case:
    """The case of this test: workload, strategy, world size, device."""
    return run.case


@pytest.fixture
def verdict(run: Run) -> Verdict:
    """Whether the case computes what its reference computes, with the evidence."""
    with _errors_in_words():
        return run.verdict()


@pytest.fixture
def timing(run: Run) -> Timing:
    """The case's times against its serial baselines."""
    with _errors_in_words():
        return run.timing()


@contextlib.contextmanager
def _errors_in_words() -> Iterator[None]:
    """Show an error of Lockstep's by its message, which says what to do, rather than by where it was raised."""
    __tracebackhide__ = True
    try:
        yield
    except MissingRequirementError as error:
        pytest.skip(str(error))
    except HarnessError as error:
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)


def _param(offer: Offer, suite: cases.Suite) -> Any:
    marks = [getattr(pytest.mark, name) for name in (suite, *offer.markers)]
    marks.append(pytest.mark.xdist_group(offer.strategy.framework))
    if offer.lacks:
        marks.append(pytest.mark.skip(reason=offer.lacks))
    return pytest.param(offer, id=offer.case.id, marks=marks)


def _marked(marker: pytest.Mark, selection: cases.Selection) -> Offer:
    """Return the case that a ``parity`` marker names."""
    wanted = marker.kwargs.get("workload")
    workload = wanted if isinstance(wanted, Workload) else workloads.get(str(wanted))
    case = Case(
        workload=workload.name,
        strategy=marker.kwargs.get("strategy", ""),
        world_size=marker.kwargs.get("world_size", 2),
        device=marker.kwargs.get("device", "cpu"),
    )
    return cases.offer(case, workload, strategies.get(case.strategy), selection)


def _offer(item: pytest.Item) -> Offer | None:
    callspec = getattr(item, "callspec", None)
    offer: Offer | None = callspec.params.get("ls_offer") if callspec else None
    return offer


def _why(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    """Return in a line why a test did not pass."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(call.excinfo.value) if call.excinfo else report.longreprtext


def _asked(config: pytest.Config) -> str:
    """Return what the user asked for in particular, in the words of the command line; empty when nothing."""
    selection = config.stash[HARNESS].options.selection if HARNESS in config.stash else options.read(config).selection
    expression = config.getoption("markexpr", "")
    derived = {*MARKERS, *(m for s in strategies.strategies().values() for m in (s.framework, *s.markers))}
    marked = f"-m '{expression}'" if derived & set(expression.replace("(", " ").replace(")", " ").split()) else ""
    named = [
        f"--ls-{option} {value}"
        for option, values in (
            ("strategy", selection.strategies),
            ("workload", selection.workloads),
            ("world-size", selection.world_sizes),
            ("device", selection.devices),
        )
        for value in values
    ]
    return " ".join(filter(None, [marked, *named]))


def _terminate(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt("SIGTERM")
