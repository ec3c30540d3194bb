"""What no strategy of the TensorFlow family can train: Keras builds models of described layers only."""

from __future__ import annotations

LIMITS = {
    "blocks": "Keras cannot build a model of PyTorch modules",
    "routed": "only models of PyTorch modules choose the parameters that a sample uses, and Keras cannot build those",
}
