"""The pytest plugin: options, markers, fixtures, parametrisation and records."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness import cases, interrupts, journalist, options, parametrisation, progress, scheduling, workloads
from harness.cases import Offer
from harness.claims import PublishedClaim, Study
from harness.errors import HarnessError, MissingRequirementError, StoreError
from harness.injection import Injection
from harness.measure import lease
from harness.parametrisation import INJECTION, OFFER, RUNNER, offer_of, timed
from harness.record import Record, Verdict
from harness.report.export import junit
from harness.runner import Runner
from harness.session import Harness, Run, record
from harness.spec import Case
from harness.strategies import base as strategies
from harness.timings import Timing

HARNESS = pytest.StashKey[Harness]()
INTERRUPTS = pytest.StashKey[interrupts.Interrupts]()
RUN = pytest.StashKey[Run]()
# What a test leaves besides the record of its case: records of cases with a fault, and claims of a study.
INJECTED = pytest.StashKey[list[Record]]()
CLAIMS = pytest.StashKey[list[PublishedClaim]]()
OUTCOME = pytest.StashKey[str]()
FAILED = pytest.StashKey[bool]()
# Whether any test of this process is timed; then all others keep out of its way.
TIMED = pytest.StashKey[bool]()
REFUSED = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ``--ls-*`` options."""
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Find every strategy, register the markers, and take up the options."""
    try:
        strategies.discover()
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    parametrisation.declare_markers(config)
    own = options.read(config)
    lacks = cases.too_few_gpus(own.num_gpus_required)
    if lacks:
        raise pytest.UsageError(f"--ls-require-gpus: {lacks}")
    harness = Harness(own)
    _require_baseline(harness)
    config.stash[HARNESS] = harness
    config.stash[INTERRUPTS] = interrupts.Interrupts()
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(journalist.Journalist(config, own), "lockstep-journalist")
        live = progress.Progress(config)
        config.pluginmanager.register(live, "lockstep-progress")
        harness.on_round = live.round_timed
        config.pluginmanager.register(config.stash[INTERRUPTS], "lockstep-interrupts")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End every rank of this session."""
    if HARNESS in config.stash:
        with interrupts.deferred():
            config.stash[HARNESS].close()
        config.stash[INTERRUPTS].give_back()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Share the run and its scratch folder with a worker of pytest-xdist."""
    node.config.stash[INTERRUPTS].take_over()
    scratch = _shared_scratch(node.config)
    node.workerinput["lockstep"] = {"run": node.config.stash[HARNESS].options.run, "scratch": scratch and str(scratch)}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the cases of one framework on one worker."""
    scratch = _shared_scratch(config)
    if scratch is None or config.getoption("dist") not in scheduling.DISTRIBUTED:
        return None
    return scheduling.Scheduling(config, log, scratch)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what reports claims of a study."""
    if "study" in getattr(item, "fixturenames", ()):
        item.add_marker("study")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test that asks for a case all cases of its suite, or the ones its ``parity`` markers name."""
    try:
        if OFFER not in metafunc.fixturenames:
            parametrisation.require_case(metafunc)
            return
        selection = metafunc.config.stash[HARNESS].options.selection
        metafunc.parametrize(OFFER, parametrisation.parameters(metafunc, selection), indirect=True)
    except HarnessError as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from error


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stop, once, where a strategy or workload was asked for that no file registers; conftests are loaded by now."""
    selection = config.stash[HARNESS].options.selection
    offers = [offer for item in items if (offer := offer_of(item)) is not None]
    try:
        selection.validate([offer.case for offer in offers])
    except HarnessError as error:
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(str(error)) from error
        # pytest-xdist takes an exception for a crash; the controller tells instead.
        config.workeroutput["lockstep"] = str(error)  # type: ignore[attr-defined]
        items.clear()
    left_out = parametrisation.unwanted(items, selection)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Look at what will run: a session without cases is left alone."""
    measured = [item for item in session.items if timed(getattr(item, "fixturenames", ()))]
    session.config.stash[TIMED] = bool(measured)
    session.config.stash[HARNESS].most_ranks = parametrisation.most_ranks(measured)
    if any(_starts_ranks(item) for item in session.items):
        session.config.stash[INTERRUPTS].take_over()
        if hasattr(session.config, "workerinput"):
            session.config.stash[INTERRUPTS].end_with_parent()
            scratch = session.config.stash[HARNESS].options.scratch
            if scratch is not None:
                scheduling.note_groups(session.items, scratch)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let nothing else of Lockstep run on this machine while a case is timed."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_lease(item))
        except HarnessError as error:
            item.stash[REFUSED] = str(error)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Show an error of Lockstep's in its own words."""
    if REFUSED in item.stash:
        pytest.fail(item.stash[REFUSED], pytrace=False)
    return (yield from _in_words(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Show an error of Lockstep's in its own words; fail a timed case that got slower than is allowed."""
    yield from _in_words(item)
    slower = item.stash[RUN].slower() if RUN in item.stash else None
    if slower is not None:
        pytest.fail(slower, pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Pack what is known of the case into the last report of its test."""
    report = yield
    if report.when == "teardown":
        report.lockstep_injected = [*map(journalist.pack, item.stash.get(INJECTED, ()))]  # type: ignore[attr-defined]
        report.lockstep_claims = [*map(journalist.pack, item.stash.get(CLAIMS, ()))]  # type: ignore[attr-defined]
    offer = offer_of(item)
    if offer is None:
        return report
    done = item.stash.get(RUN, None)
    if report.when != "teardown":
        if not report.passed:
            item.stash[OUTCOME] = _why(report, call)
            item.stash[FAILED] = report.failed
            if report.skipped and isinstance(report.longrepr, tuple):
                path, line, _name = item.location
                report.longrepr = (path, (line or 0) + 1, report.longrepr[2])
        return report
    packed = record(
        item.config.stash[HARNESS],
        offer,
        done=done,
        failure=item.stash.get(OUTCOME, None),
        failed=item.stash.get(FAILED, False),
        test=_plain_id(item),
        command=_command(item, offer),
    )
    report.lockstep = journalist.pack(packed)  # type: ignore[attr-defined]
    report.user_properties += junit.of_case(packed)
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
def run(ls_offer: Offer, request: pytest.FixtureRequest) -> Run:
    """The case of this test, to be judged and timed on demand."""
    own = Run(harness=request.config.stash[HARNESS], offer=ls_offer, alone=timed(request.fixturenames))
    request.node.stash[RUN] = own
    return own


@pytest.fixture
def case(run: Run) -> Case:
    """The case of this test: workload, strategy, world size, device."""
    return run.case


@pytest.fixture
def verdict(run: Run) -> Verdict:
    """Whether the case computes what its reference computes, with the evidence."""
    return run.verdict()


@pytest.fixture
def timing(run: Run) -> Timing:
    """The case's times against its serial baselines."""
    return run.timing()


@pytest.fixture
def study(request: pytest.FixtureRequest) -> Study:
    """Reports what a published study claims beside what is found here; the test is marked ``study``."""
    kept: list[PublishedClaim] = request.node.stash.setdefault(CLAIMS, [])
    return Study(run=request.config.stash[HARNESS].options.run, test=_plain_id(request.node), keep=kept.append)


@pytest.fixture
def ls_injection(request: pytest.FixtureRequest) -> Injection:
    """Runs a case with a fault in it, and keeps a record of what became of it."""
    kept: list[Record] = request.node.stash.setdefault(INJECTED, [])
    return Injection(request.config.stash[HARNESS], test=_plain_id(request.node), keep=kept.append)


def _require_baseline(harness: Harness) -> None:
    """Stop before anything is timed where the run to compare with is not there."""
    try:
        _ = harness.history
    except HarnessError as error:
        raise pytest.UsageError(f"--ls-compare-to: {error}") from error


def _shared_scratch(config: pytest.Config) -> Path | None:
    """Return the scratch folder that the workers of pytest-xdist share, or None where there is nowhere to write."""
    with contextlib.suppress(StoreError):  # there may be no case that needs it; the first that does will tell
        return config.stash[HARNESS].scratch
    return None


def _starts_ranks(item: pytest.Item) -> bool:
    return not {OFFER, RUNNER, INJECTION}.isdisjoint(getattr(item, "fixturenames", ()))


def _lease(item: pytest.Item) -> contextlib.AbstractContextManager[None]:
    """Return the share of the machine that a test needs; one that cannot run or has no ranks needs none."""
    offer = offer_of(item)
    tell = item.config.pluginmanager.get_plugin("terminalreporter")
    on_wait = tell.write_line if tell else None
    if offer is not None and offer.lacks:
        return contextlib.nullcontext()
    if timed(getattr(item, "fixturenames", ())):
        return lease.exclusive(label=item.nodeid, on_wait=on_wait)
    # Beside a measurement in another worker of pytest-xdist not even a plain test may run.
    in_the_way = hasattr(item.config, "workerinput") and item.config.stash.get(TIMED, False)
    return lease.shared(on_wait=on_wait) if in_the_way or _starts_ranks(item) else contextlib.nullcontext()


def _in_words(item: pytest.Item) -> Generator[None, None, None]:
    """Show an error of Lockstep's by its message, which says what to do, rather than by where it was raised."""
    try:
        return (yield)
    except HarnessError as error:
        if not _starts_ranks(item):
            raise
        _end(error)


def _end(error: HarnessError) -> NoReturn:
    if isinstance(error, MissingRequirementError):
        raise pytest.skip.Exception(str(error)) from None
    raise pytest.fail.Exception(f"{type(error).__name__}: {error}", pytrace=False) from None


def _plain_id(item: pytest.Item) -> str:
    """Return a test's id without the group that pytest-xdist appends."""
    before, at, _group = item.nodeid.rpartition("]@")
    return f"{before}]" if at else item.nodeid


def _command(item: pytest.Item, offer: Offer) -> str:
    """Return what repeats exactly this case, whatever was selected in this session."""
    words = ["pytest", _plain_id(item)]
    own = item.config.stash[HARNESS].options
    selection = own.selection
    if item.get_closest_marker("parity") is None:
        case = offer.case
        words += [f"--ls-strategy={case.strategy}", f"--ls-workload={workloads.written(offer.workload)}"]
        words += [f"--ls-world-size={case.world_size}", f"--ls-device={case.device}"]
    words += [f"--ls-data-root={selection.data_root}"] if selection.data_root else []
    return shlex.join(words + options.unusual(item.config))


def _why(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    """Return why a test did not pass."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(call.excinfo.value) if call.excinfo else report.longreprtext
