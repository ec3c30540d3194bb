"""Cases that are run with a bug in them on purpose, and the records of what became of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import msgspec

from harness import cases
from harness.controls import Control
from harness.errors import HarnessError, RankError
from harness.record import Record, Verdict
from harness.runner import Runner
from harness.session import Harness, Run, record
from harness.strategies import base as strategies


class Injection:
    """Judges negative controls for one test, each with a record that names its fault."""

    def __init__(self, harness: Harness, *, test: str, keep: Callable[[Record], None]) -> None:
        self.harness = harness
        self._test = test
        self._keep = keep

    @property
    def runner(self) -> Runner:
        """Runs the cases of this session."""
        return self.harness.runner

    def verdict(self, control: Control, runner: Runner | None = None) -> Verdict:
        """Return what the oracle says of a case with its fault; ``runner`` where the session's is not to run it.

        Raises:
            RankError: a rank raised, died or hung, as it does with some faults; that is recorded, too.
        """
        strategy = strategies.get(control.case.strategy)
        offer = cases.offer(control.case, control.workload, strategy, self.harness.options.selection, refused=None)
        own, run = runner or self.runner, Run(harness=self.harness, offer=offer)
        failure: HarnessError | None = None
        try:
            run.found = own.verdict(control.case, control.workload, control.fault)
        except HarnessError as error:
            failure = error
            raise
        finally:
            run.logs = own.logs(control.case, control.workload, control.fault)
            found = record(
                self.harness,
                offer,
                done=run,
                failure=str(failure) if failure else None,
                failed=isinstance(failure, RankError),
                test=self._test,
                command=shlex.join(["pytest", self._test, "--ls-scale=full"]),
            )
            # What the library is known to do differently is no excuse for a fault.
            fuzz = self.harness.options.fuzz
            traces = own.notes.told(control.case, control.workload, fuzz, control.fault)
            self._keep(msgspec.structs.replace(found, fault=control.name, finding="", traces=traces))
        return run.found
