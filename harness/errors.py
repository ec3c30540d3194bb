"""Every error that Lockstep raises on purpose.

HarnessError
├── UsageError (ValueError)        the user asked for something that cannot be
│   ├── SpecError                  a workload, case or job that contradicts itself
│   ├── UnknownNameError           no such strategy, workload, model, dataset, fault, run
│   ├── DuplicateNameError         two definitions of one name
│   └── DataError                  a data file that is absent, damaged or not what its name says
├── MissingRequirementError        a package, device or compiler this machine lacks: a reason to skip
├── BrokenPluginError              a strategy or workload file that fails to import: stops collection
├── BuildError                     something that is built from source here does not build, or does not work
├── TraceError                     a trace that is truncated, of another schema, or does not fit its partner
├── RankError                      a rank raised, died, hung or left something behind
└── StoreError                     records cannot be written or read
    └── SchemaError                another version of Lockstep wrote them, and this one knows no way from there

Every message says what was expected, what was found, and the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Root of every error that Lockstep raises on purpose."""


class UsageError(HarnessError, ValueError):
    """The user's mistake."""


class SpecError(UsageError):
    """A workload, case or job that contradicts itself."""


class UnknownNameError(UsageError):
    """A name nobody registered; the message offers the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(names) or 'none'}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class DuplicateNameError(UsageError):
    """Two definitions of one name."""

    def __init__(self, kind: str, name: str, first: str, second: str) -> None:
        super().__init__(f"two definitions of {kind} {name!r}: {first} and {second}; rename one of them")


class DataError(UsageError):
    """A data file that is absent, damaged or not what its name says."""


class MissingRequirementError(HarnessError):
    """Something this machine lacks; the case is skipped with this reason."""


class BrokenPluginError(HarnessError):
    """A strategy or workload file that cannot be imported."""


class BuildError(HarnessError):
    """Something that is built from source here does not build, or does not work."""


class TraceError(HarnessError):
    """A trace that cannot be read or does not fit its partner."""


class RankError(HarnessError):
    """A rank raised, died, hung or left something behind."""


class StoreError(HarnessError):
    """Records that cannot be written or read."""


class SchemaError(StoreError):
    """Records that another version of Lockstep wrote; ``schema`` is the number of what they were written under."""

    def __init__(self, message: str, schema: int) -> None:
        super().__init__(message)
        self.schema = schema
