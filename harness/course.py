"""How far a pytest session has come: cases done and what they came to, what runs now, how long it may still take."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from harness.record import GRAVITY, Conclusion
from harness.report import words

# A case in the id of its test.
CASE_ID = re.compile(r"\[(?P<workload>[^/\[\]]+)/(?P<strategy>[^/]+)/(?P<world_size>\d+)/(?P<device>cpu|cuda)\]")
# So many tests of a kind tell how long the others will take.
ENOUGH = 2


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """As much of a record as the line shows."""

    case: str
    verdict: Conclusion
    failed: bool = False
    fault: str | None = None


@dataclass(kw_only=True, slots=True)
class Course:
    """What has become of the tests of a session; times are in seconds on a clock of the caller's."""

    # Tests still to end, by case and by kind: tests of a kind take about as long as each other.
    left_of_case: Counter[str] = field(default_factory=Counter)
    left_of_kind: Counter[str] = field(default_factory=Counter)
    # When the tests that run now began, and how long each has taken in its phases.
    running: dict[str, float] = field(default_factory=dict)
    phases_s: dict[str, float] = field(default_factory=dict)
    taken: dict[str, list[float]] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)

    def expect(self, tests: Iterable[str]) -> None:
        """Take note of the tests to come, by their ids."""
        for test in tests:
            self.left_of_kind[_kind(test)] += 1
            if (case := case_of(test)) is not None:
                self.left_of_case[case] += 1

    def begin(self, test: str, now_s: float) -> None:
        """Take note of a test that begins."""
        self.running[test] = now_s

    def phase(self, test: str, duration_s: float) -> None:
        """Take note of a phase of a test that has ended."""
        self.phases_s[test] = self.phases_s.get(test, 0.0) + duration_s

    def tell(self, found: Told) -> None:
        """Take note of what a case came to; a case with a bug put in is none."""
        known = self.told.get(found.case)
        if found.fault is None and (known is None or _gravity(found) >= _gravity(known)):
            self.told[found.case] = found

    def end(self, test: str) -> None:
        """Take note of a test that has ended."""
        self.taken.setdefault(_kind(test), []).append(self.phases_s.get(test, 0.0))
        self.drop(test)

    def drop(self, test: str) -> None:
        """Take note of a test whose process has died: it ends, and does not tell how long others of its kind take."""
        self.running.pop(test, None)
        self.phases_s.pop(test, None)
        self.left_of_kind[_kind(test)] -= 1
        if (case := case_of(test)) is not None:
            self.left_of_case[case] -= 1

    @property
    def num_cases(self) -> int:
        """How many cases there are."""
        return len(self.left_of_case)

    @property
    def num_done(self) -> int:
        """How many cases were judged, or have no test left; one that was judged may still be timed."""
        return sum(left <= 0 or case in self.told for case, left in self.left_of_case.items())

    def counted(self) -> Iterator[tuple[int, str, Conclusion]]:
        """Yield how many cases came to what, in the order of reports: the number, the word, in whose colours."""
        found = Counter(
            words.FAILED if told.failed and told.verdict == "not-verified" else words.VERDICT[told.verdict]
            for told in self.told.values()
        )
        for tone, word in words.TALLIED:
            if found[word]:
                yield found[word], word, tone

    def left_s(self, now_s: float) -> float | None:
        """Return about how long the rest will take; None while there is a kind of test of which too few have ended."""
        total = 0.0
        for kind, left in self.left_of_kind.items():
            taken = self.taken.get(kind, [])
            if left > 0 and len(taken) < ENOUGH:
                return None
            if left > 0:
                total += left * sum(taken) / len(taken)
        for test, began_s in self.running.items():
            taken = self.taken.get(_kind(test), [])
            if taken:
                total -= min(now_s - began_s, sum(taken) / len(taken))
        return max(total, 0.0) / max(len(self.running), 1)


def case_of(test: str) -> str | None:
    """Return the case in the id of a test, or None where it has none."""
    found = CASE_ID.search(test)
    return found and found[0][1:-1]


def _kind(test: str) -> str:
    return test.partition("[")[0] if case_of(test) else test.partition("::")[0]


def _gravity(told: Told) -> tuple[int, bool]:
    # Of several tests of one case the gravest speaks for it, as in every report.
    return GRAVITY.index(told.verdict), told.failed
