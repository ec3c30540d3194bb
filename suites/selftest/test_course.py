"""How far a session has come: counts in the words of the report, and a guess of what is left where there is one."""

from __future__ import annotations

from harness.course import Course, Told, case_of
from harness.progress import line
from harness.record import Conclusion


def parity(name: str) -> str:
    return f"suites/test_parity.py::test_parity[digits/{name}/2/cpu]"


def judged(name: str, conclusion: Conclusion = "equivalent", *, failed: bool = False, fault: str | None = None) -> Told:
    return Told(case=f"digits/{name}/2/cpu", verdict=conclusion, failed=failed, fault=fault)


def ran(course: Course, name: str, duration_s: float, found: Told) -> None:
    test = parity(name)
    course.begin(test, 0.0)
    course.phase(test, duration_s)
    course.tell(found)
    course.end(test)


def shown(course: Course, now_s: float = 0.0, *, width: int = 200, rounds: str = "") -> str:
    return "".join(text for text, _tone in line(course, now_s, since_s=now_s, rounds=rounds, width=width))


def half_way() -> Course:
    """Three of eight cases have ended, and a fourth one runs since second 30."""
    course = Course()
    course.expect(parity(name) for name in "abcdefgh")
    ran(course, "a", 20.0, judged("a"))
    ran(course, "b", 40.0, judged("b", "different"))
    ran(course, "c", 30.0, judged("c", "not-verified"))
    course.begin(parity("d"), 30.0)
    return course


def test_the_line_tells_what_came_out_what_runs_and_how_long_it_will_take() -> None:
    # Five cases of 30 s are left, and 12 s of one of them have passed.
    assert shown(half_way(), 42.0, rounds="rounds 7, 1.82x [1.75, 1.90]") == (
        "3/8 cases · 1 equivalent, 1 different, 1 not verified · digits/d/2/cpu for 0:12 · rounds 7, 1.82x [1.75, 1.90]"
        " · 0:42, about 2 min left"
    )


def test_what_is_left_is_not_guessed_from_tests_of_another_kind() -> None:
    course = half_way()
    assert course.left_s(42.0) == 5 * 30.0 - 12.0
    course.expect(["suites/test_speed.py::test_speed[digits/a/2/cpu]"])
    assert course.left_s(42.0) is None
    assert "left" not in shown(course, 42.0)


def test_nothing_is_said_of_what_is_left_before_two_cases_have_ended() -> None:
    course = Course()
    course.expect(parity(name) for name in "abc")
    assert course.left_s(0.0) is None
    ran(course, "a", 5.0, judged("a"))
    assert course.left_s(0.0) is None
    ran(course, "b", 5.0, judged("b"))
    assert course.left_s(0.0) == 5.0


def test_beside_each_other_tests_take_less_time_together() -> None:
    course = half_way()
    course.begin(parity("e"), 42.0)
    assert course.left_s(42.0) == (5 * 30.0 - 12.0) / 2
    assert "digits/e/2/cpu and 1 more" in shown(course, 42.0)


def test_a_test_that_takes_longer_than_the_others_leaves_no_less_than_nothing() -> None:
    course = half_way()
    for name in "efgh":
        ran(course, name, 30.0, judged(name))
    assert course.left_s(1000.0) == 0.0


def test_the_gravest_of_several_tests_speaks_for_a_case_and_a_bug_put_in_does_not() -> None:
    course = Course()
    course.tell(judged("a"))
    course.tell(judged("a", "different"))
    course.tell(judged("a", "not-verified"))
    course.tell(judged("b", "different", fault="sum-instead-of-mean"))
    course.tell(judged("c", "not-verified", failed=True))
    assert list(course.counted()) == [(1, "different", "different"), (1, "failed", "different")]


def test_a_narrow_terminal_keeps_what_matters_most() -> None:
    course = half_way()
    told = {width: shown(course, 42.0, width=width, rounds="rounds 7") for width in range(1, 120)}
    assert all(len(text) <= width for width, text in told.items())
    assert told[80] == "3/8 cases · 1 different · digits/d/2/cpu for 0:12 · 0:42, about 2 min left"
    assert told[60] == "3/8 cases · digits/d/2/cpu for 0:12 · 0:42, about 2 min left"
    assert told[40] == "3/8 cases · digits/d/2/cpu for 0:12"
    assert told[20] == "3/8 cases · digits/d"


def test_a_case_is_found_in_the_id_of_its_test() -> None:
    assert case_of("a.py::test_parity[tiny/numpy-mean/2/cpu]@plain") == "tiny/numpy-mean/2/cpu"
    assert case_of("a.py::test_other[2]") is None


def test_a_test_that_dies_runs_no_longer_and_tells_nothing_of_the_others() -> None:
    course = half_way()
    course.drop(parity("d"))
    assert not course.running
    assert course.num_done == 4
    assert course.left_s(42.0) == 4 * 30.0
