"""Pages of runs, opened in a real browser that is watched: what a page must not do fails the test that opened it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import kinds_of_runs
import pytest

from fixtures import chromium
from fixtures.chromium import Opened, Settings, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a file: it starts in half a second, and a page of it in a tenth."""
    reason = chromium.lacks()
    if reason:
        pytest.skip(reason)
    with chromium.started() as found:
        yield found


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Open pages; when the test ends, none of them may have complained."""
    visits: list[Visit] = []

    def go(path: Path, **settings: Unpack[Settings]) -> Visit:
        visits.append(chromium.visit(browser, path, **settings))
        return visits[-1]

    yield go
    complaints = [complaint for visit in visits for complaint in visit.complaints]
    for visit in visits:
        visit.page.context.close()
    assert not complaints, "\n".join(complaints)


@pytest.fixture(scope="session")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the page of a kind of run, rendered once."""

    @functools.cache
    def rendered(kind: str) -> Path:
        return kinds_of_runs.page(kind, tmp_path_factory.mktemp(kind))

    return rendered
