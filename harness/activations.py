"""What every layer puts out in the first forward of a serial training, so that two frameworks can be held together.

A gradient that differs says that some layer is wrong; the first layer whose output differs says which.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.plan import Indices, Step
from harness.record import Rung
from harness.recorder import Recorder
from harness.spec import Job

# What a layer gets wrong shows in a few samples, and a batch norm's statistics are over all of them anyway.
NUM_SAMPLES = 8
_RUNG: Rung = "activations"


class Activations:
    """Gathers the outputs for the first samples of step 0, from the groups in which they come; serial runs only.

    Recorded are rows in the order of the step's own samples, so that a rerun in another order has the same ones.
    """

    def __init__(self, recorder: Recorder, job: Job) -> None:
        asked = recorder.on and job.workload.check.activations
        if asked and job.world_size > 1:
            recorder.not_shown[_RUNG] = "only serial training shows what its layers put out"
        self.on = asked and job.world_size == 1
        self._recorder = recorder
        self._step = -1
        self._place: dict[int, int] = {}
        self._outputs: dict[str, NDArray[np.generic]] = {}

    @property
    def wanted(self) -> bool:
        """Whether the step in progress is the one whose outputs are recorded."""
        return self.on and self._step == 0

    def begin(self, step: Step) -> None:
        """Start a step."""
        self._step = step.number
        self._place = {int(sample): place for place, sample in enumerate(step.micro_batches[0][:NUM_SAMPLES])}

    def add(self, name: str, samples: Indices, output: NDArray[np.generic]) -> None:
        """Note what layer ``name`` puts out for ``samples``, shape [n, ...] with images as [n, c, h, w]."""
        if not self.wanted:
            return
        rows = [row for row, sample in enumerate(samples) if int(sample) in self._place]
        kept = self._outputs.setdefault(name, np.zeros((len(self._place), *output.shape[1:]), output.dtype))
        kept[[self._place[int(samples[row])] for row in rows]] = output[rows]

    def record(self) -> None:
        """Hand the outputs to the recorder, layer after layer."""
        if self.wanted:
            for name, output in self._outputs.items():
                self._recorder.tap(_RUNG, self._step, name, output)
