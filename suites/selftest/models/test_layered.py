"""A model in words: what a minimised case needs to say on a command line."""

from __future__ import annotations

import pytest

from harness.errors import SpecError
from harness.models import base
from harness.models.layered import written
from harness.spec import Setting, Workload


def layers(text: str, shape: tuple[int, int, int] = (1, 8, 8)) -> tuple[base.Layer, ...]:
    return base.layers(
        Workload(name="w", model="layered", model_options={"layers": text}, dataset="synthetic", shape=shape)
    )


@pytest.mark.parametrize("model", ["mlp", "simple-cnn", "mnist-cnn"])
def test_a_model_that_ships_is_itself_again_when_written_down(model: str) -> None:
    described = base.layers(Workload(name="w", model=model, dataset="synthetic", shape=(3, 8, 8)))
    text = written(described)
    assert text is not None
    assert layers(text, (3, 8, 8)) == described


@pytest.mark.parametrize("model", ["tied-mlp", "transformer"])
def test_what_has_no_words_is_not_written(model: str) -> None:
    options: dict[str, Setting] = {"dim": 8, "depth": 1, "heads": 2, "patch": 2} if model == "transformer" else {}
    described = base.layers(
        Workload(name="w", model=model, model_options=options, dataset="synthetic", shape=(1, 8, 8))
    )
    assert written(described) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flatten-dense4", "'dense' as the last layer"),
        ("dense", "'flatten' once, before 'dense'"),
        ("flatten-flatten-dense", "'flatten' once"),
        ("flatten-conv4-dense", "'flatten' once"),
        ("conv-flatten-dense", "a number of outputs after 'conv'"),
        ("flatten-lstm4-dense", "expected layers among conv8"),
        ("pool16-flatten-dense", "before max-pooling"),
    ],
)
def test_what_is_no_model_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        layers(text)
