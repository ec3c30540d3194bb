"""Optimizers and schedules that several shipped workloads share."""

from __future__ import annotations

from harness.spec import Optimizer, Schedule

SGD = Optimizer(name="sgd", learning_rate=0.05, momentum=0.9)
ADAMW = Optimizer(name="adamw", learning_rate=1e-3, weight_decay=0.01)
HALVED_EACH_EPOCH = Schedule(gamma=0.5)
DECAYED = Schedule(gamma=0.8)
