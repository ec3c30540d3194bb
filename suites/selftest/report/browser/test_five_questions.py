"""A newcomer's questions: the answer to each is in the window after two clicks at most."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from questions import QUESTIONS, Question, ask

from fixtures.chromium import Opened

pytest_plugins = ["opening"]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
@pytest.mark.parametrize("width", [1280, 375])
def test_a_question_is_answered_within_two_clicks(
    opened: Opened, page_of: Callable[[str], Path], question: Question, width: int
) -> None:
    assert len(question.clicks) + (question.choice is not None) <= 2
    visit = opened(page_of("later"), width=width)
    ask(visit, question)
    answer = visit.page.locator(question.answer).first
    words = " ".join(answer.inner_text().split())
    assert all(told in words for told in question.told), words
    box = answer.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 900
