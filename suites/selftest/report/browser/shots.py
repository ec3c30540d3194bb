"""Pictures of a run's page, to look at: light, dark, narrow, on paper, and with a case open.

    python suites/selftest/report/browser/shots.py RUN FOLDER [--case NAME]
    python suites/selftest/report/browser/shots.py --questions FOLDER

RUN is a run's directory; its page is rendered anew in FOLDER, beside the PNGs. With --questions, of a made-up run: the
answer to each of a newcomer's five questions, as in docs/report.md.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[4]
sys.path.insert(0, str(ROOT))

import kinds_of_runs
import questions

from fixtures import chromium
from harness.report import write
from harness.store import INFO, RECORDS

# Taller than this nobody looks at a picture.
MOST_HEIGHT = 6_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions", action="store_true", help="the answers to a newcomer's questions")
    parser.add_argument("--case", default="", help="open the first case whose name holds this, not the gravest")
    chosen = parser.parse_args()
    reason = chromium.lacks()
    if reason:
        raise SystemExit(reason)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if chosen.questions:
        answer_all(chosen.folder)
        return
    for name in (RECORDS, INFO):
        shutil.copy(chosen.run / name, chosen.folder / name)
    page = write(chosen.folder)
    with chromium.started() as browser:
        for name, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("narrow", "light", 375)):
            visit = chromium.visit(browser, page, scheme="dark" if scheme == "dark" else "light", width=width)
            visit.unfold(0)
            shoot(visit, chosen.folder / f"{name}-first-screen.png", whole=False)
            shoot(visit, chosen.folder / f"{name}.png")
            open_case(visit, chosen.case)
            shoot(visit, chosen.folder / f"{name}-case.png", whole=False)
            if name == "light":
                visit.page.emulate_media(media="print")
                visit.page.pdf(path=chosen.folder / "print.pdf", format="A4")
                shoot(visit, chosen.folder / "print.png")
            visit.page.context.close()


def answer_all(folder: Path) -> None:
    """Write a picture of every answer."""
    with tempfile.TemporaryDirectory() as made, chromium.started() as browser:
        page = kinds_of_runs.page("later", Path(made))
        for question in questions.QUESTIONS:
            visit = chromium.visit(browser, page, height=720)
            questions.ask(visit, question)
            shoot(visit, folder / f"{question.name}.png", whole=False)
            visit.page.context.close()


def open_case(visit: chromium.Visit, name: str) -> None:
    """Open a case and bring it to the top of the window."""
    visit.page.locator("details.case", has_text=name).first.locator("summary").first.click()
    visit.settle()
    visit.page.evaluate("document.querySelector('details.case[open]').scrollIntoView()")


def shoot(visit: chromium.Visit, path: Path, *, whole: bool = True) -> None:
    """Write what is seen, or the whole page, as a picture."""
    size = visit.page.viewport_size
    assert size is not None
    if not whole:
        visit.page.screenshot(path=path)
        return
    height = visit.page.evaluate("document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(height, MOST_HEIGHT)}
    visit.page.screenshot(path=path, full_page=True, clip=clip)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
