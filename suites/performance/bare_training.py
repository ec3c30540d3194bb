"""The training of bench_overhead.py as a script of one's own: an epoch for every "go", its seconds and mean loss."""

import os
import sys
import time

folder, batch, learning_rate, decay, core = sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:5]), int(sys.argv[5])
os.sched_setaffinity(0, {core})

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)
images = torch.from_numpy(np.load(f"{folder}/images.npy"))
labels = torch.from_numpy(np.load(f"{folder}/labels.npy"))
layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
layers += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
model = nn.Sequential(*layers, nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10))
for parameter, weights in zip(model.parameters(), np.load(f"{folder}/weights.npz").values(), strict=True):
    parameter.data.copy_(torch.from_numpy(weights))
optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
sys.stdout.write("ready\n")
sys.stdout.flush()

for epoch, _ in enumerate(sys.stdin):
    optimizer.param_groups[0]["lr"] = learning_rate * decay**epoch
    order = torch.from_numpy(np.random.default_rng([0, 1, epoch]).permutation(len(images)))
    losses = []
    began_s = time.perf_counter()
    for first in range(0, len(order), batch):
        samples = order[first : first + batch]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[samples]), labels[samples])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    sys.stdout.write(f"{time.perf_counter() - began_s} {np.mean(losses)}\n")
    sys.stdout.flush()
