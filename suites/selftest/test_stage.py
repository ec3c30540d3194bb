import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import stage


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-u", "-c", program]


def test_a_stage_that_works_is_told_in_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "new" / "x.log"
    assert stage.run("Trying", python("print('hello')"), log=log) == 0
    assert log.read_text() == "hello\n"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Trying ..."
    assert lines[1].startswith("  done in ")
    assert len(lines) == 2


def test_a_slow_stage_says_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "import sys; print('noise'); print('[ 42%] Building'); print('noise'); sys.stdin.read()"
    command = ["sh", "-c", f'(sleep 1; :) | {sys.executable} -S -u -c "{program}"']
    assert stage.run("Building", command, log=tmp_path / "x.log", shown=r"^\[ *\d+%\]", tick_s=0.2) == 0
    assert "s  [ 42%] Building\n" in capsys.readouterr().out
    assert stage.TICK_S <= 20, "never silent for longer than 20 s"


def test_a_stage_that_fails_shows_the_end_of_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "x.log"
    program = "import sys; print('\\n'.join(map(str, range(100)))); sys.exit(7)"
    assert stage.run("Trying", python(program), log=log) == 7
    out = capsys.readouterr().out
    assert f"FAILED (exit code 7) after 0 s; the end of {log}:" in out
    assert "  | 70\n" in out
    assert "  | 69\n" not in out


def test_a_stage_without_a_log_simply_shows_what_it_prints(capfd: pytest.CaptureFixture[str]) -> None:
    assert stage.run("Trying", python("print('seen')")) == 0
    assert capfd.readouterr().out == "Trying ...\nseen\n"


def test_a_stage_over_its_limit_is_interrupted_as_by_ctrl_c(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("report written")
"""
    log = tmp_path / "x.log"
    assert stage.run("Slow", python(program), log=log, tick_s=0.1, limit_s=1) == stage.EXIT_LIMIT
    assert log.read_text() == "report written\n"
    assert "still running after 1 s: stopping it" in capsys.readouterr().out


def test_a_terminated_stage_ends_what_it_started() -> None:
    command = python("import sys, time; print('up'); time.sleep(60)")
    with subprocess.Popen(
        [sys.executable, "-P", stage.__file__, "Slow", "--", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["Slow ...\n", "up\n"]
        process.send_signal(signal.SIGTERM)
        # The command holds the pipe, too: it is at its end only when both are gone.
        assert process.stdout.read() == ""
        assert process.wait(timeout=10) == 128 + signal.SIGTERM


def test_a_command_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert stage.main(["Trying", "--", "/no/such/program"]) == 127
    assert "/no/such/program could not be run: " in capsys.readouterr().out


def test_colours_and_length_are_cut_from_a_line_of_progress() -> None:
    assert stage.short("\x1b[32m ok \x1b[0m\n") == "ok"
    assert len(stage.short("x" * 500)) == stage.WIDTH


def test_the_script_needs_nothing_but_the_standard_library() -> None:
    program = f"import runpy; runpy.run_path({stage.__file__!r}, run_name='stage')"
    assert subprocess.run([sys.executable, "-S", "-I", "-c", program], check=False).returncode == 0
