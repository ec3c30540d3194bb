"""A page taken apart: the elements and words that are there before its script runs, and what is packed for that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fixtures.sample_records import RUN, write_run
from harness.record import Record
from harness.report import write
from harness.report.export import results
from harness.report.html import payload
from harness.store import RECORDS

# What a run's folder holds for those who want the figures themselves.
BESIDE = {RECORDS, results.FILE}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, its visible text and its scripts; unbalanced tags are an error."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles = ""
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            attributes, content = self.scripts[-1]
            self.scripts[-1] = (attributes, content + data)
        elif inside == "style":
            self.styles += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        """What is read without the script, in one line."""
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    @cached_property
    def blobs(self) -> dict[str, Any]:
        """What is packed into the page, by name."""
        return payload.unpack(self.source)

    @cached_property
    def details(self) -> list[dict[str, Any]]:
        """Everything about each case, in the order of the list."""
        index = self.blobs["index"]
        pieces = [self.blobs[f"cases-{number}"] for number in range(-(-index["detailed"] // index["chunk"]))]
        return [detail for piece in pieces for detail in piece]

    @property
    def all_text(self) -> str:
        """What is read on the page, before its script runs and by it, in one line."""
        return " ".join([self.text, *strings(self.blobs)]).replace("\u00a0", " ")

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(folder: Path, records: list[Record], *, ended: bool = True, **info: Any) -> Page:
    """Return the page of a run that is written for it."""
    return Page(write(write_run(folder / RUN, records, ended=ended, **info)).read_text(encoding="utf-8"))


def leaves(content: Any) -> Iterator[Any]:
    """Yield everything in packed content that is neither a list nor an object."""
    if isinstance(content, dict):
        content = content.values()
    elif not isinstance(content, list):
        yield content
        return
    for item in content:
        yield from leaves(item)


def strings(content: Any) -> list[str]:
    """Return every text of packed content, each in one line."""
    return [re.sub(r"\s+", " ", leaf) for leaf in leaves(content) if isinstance(leaf, str)]


def numbers(content: Any) -> list[float]:
    """Return every number of packed content."""
    return [leaf for leaf in leaves(content) if isinstance(leaf, int | float) and not isinstance(leaf, bool)]
