"""What a page of 10,000 records costs: seconds and memory to render, bytes, and seconds to open in a real browser.

Rendered each time in a fresh process, from the records on disk to the page on disk; the peak is that process's resident
memory. Opened each time in a fresh browser context, from the navigation until the page has drawn its first screen,
listed its cases and answers to the filter. Then, on the open page: the time from a filter or an order being chosen to
the next frame being painted, and from a case being opened to its evidence being painted.

    python suites/performance/bench_report.py [--records 10000] [--renders 3] [--opens 5]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benching import spread, tell

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fixtures import chromium
from fixtures.many_records import write_many

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RENDER_S, PEAK_MB, PAGE_MB, OPEN_S = 5.0, 500.0, 5.0, 2.0
RENDER = """
import json, pathlib, resource, sys, time
began_s = time.monotonic()
from harness.report import write
path = write(pathlib.Path(sys.argv[1]))
took_s = time.monotonic() - began_s
print(json.dumps([took_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, path.stat().st_size / 1e6]))
"""
# The page marks when it is ready; what counts is when the frame after that is painted, in ms since the navigation.
WATCH = """new PerformanceObserver((list) => list.getEntriesByName("ready").forEach(() =>
  requestAnimationFrame(() => setTimeout(() => { window.paintedMs = performance.now(); }))
)).observe({ type: "mark" })"""
PAINTED = "() => window.paintedMs"
# Acts as a reader would and returns how long the page took to do it and to paint what came of it.
ACTED_MS = """([selector, value]) => new Promise((done) => {
  const node = document.querySelector(selector), began = performance.now();
  if (node.tagName === "DETAILS") node.open = true;
  else {
    node.value = value;
    node.dispatchEvent(new Event(node.tagName === "INPUT" ? "input" : "change", { bubbles: true }));
  }
  const painted = () => requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
  const filled = () => node.tagName !== "DETAILS" || node.childElementCount > 1 ? painted() : setTimeout(filled);
  filled();
})"""
ACTS = {
    "filter by text": ("#cases input[type=search]", "ddp vit"),
    "filter by nothing": ("#cases input[type=search]", ""),
    "filter by verdict": ("#cases select", "different"),
    "all verdicts": ("#cases select", ""),
    "order by name": ("#cases label:last-child select", "name"),
    "open a case": ("#cases details:nth-child(90)", ""),
}


def render(run: Path) -> tuple[float, float, float]:
    """Render a run in a process of its own; return seconds, peak MB and the page's MB."""
    done = subprocess.run(
        [sys.executable, "-c", RENDER, str(run)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, peak, size = json.loads(done.stdout)
    return seconds, peak, size


def open_once(browser: Browser, page: Path) -> tuple[float, dict[str, float]]:
    """Open a page and use it; return the seconds until it was painted, and those of every act."""
    visit = chromium.visit(browser, page, before=WATCH)
    try:
        painted_ms = visit.page.wait_for_function(PAINTED).json_value()
        acts = {name: visit.page.evaluate(ACTED_MS, list(act)) / 1e3 for name, act in ACTS.items()}
        assert not visit.complaints, visit.complaints
        return painted_ms / 1e3, acts
    finally:
        visit.page.context.close()


def told(name: str, unit: str, values: Sequence[float], limit: float) -> None:
    """Print a goal's line; the median must hold it."""
    middle, low, high = spread(values)
    tell(name, middle, unit, low=low, high=high, goal=f"<= {limit:g}", holds=middle <= limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--renders", type=int, default=3)
    parser.add_argument("--opens", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = write_many(Path(folder) / "20261120T101502.345Z-3f9a", chosen.records)
        print(f"{chosen.records} records, {(run / 'records.jsonl').stat().st_size / 1e6:.1f} MB of them")
        seconds, peaks, sizes = zip(*(render(run) for _ in range(chosen.renders)), strict=True)
        opened, acts = opening(run / "index.html", chosen.opens)
    for name in ACTS:
        middle, low, high = spread([taken[name] for taken in acts] or [float("nan")])
        print(f"{name:18} {middle * 1e3:.0f} ms, 5 to 95 %: {low * 1e3:.0f} to {high * 1e3:.0f}")
    told("render-10k", "s", seconds, RENDER_S)
    told("render-10k-memory", "MB", peaks, PEAK_MB)
    told("page-10k", "MB", sizes, PAGE_MB)
    if opened:
        told("open-10k", "s", opened, OPEN_S)


def opening(page: Path, times: int) -> tuple[list[float], list[dict[str, float]]]:
    """Open a page so many times; nothing where there is no browser, which is said."""
    reason = chromium.lacks()
    if reason:
        print(f"not opened: {reason}")
        return [], []
    with chromium.started() as browser:
        both = [open_once(browser, page) for _ in range(times)]
    return [seconds for seconds, _ in both], [acts for _, acts in both]


if __name__ == "__main__":
    main()
