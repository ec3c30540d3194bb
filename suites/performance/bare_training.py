"""The training of bench_overhead.py as a script of one's own: prints its start-up, then an epoch for every "go"."""

import os
import sys
import time

began_s = time.perf_counter()
folder, batch, core = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.sched_setaffinity(0, {core})

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
images = torch.from_numpy(np.load(f"{folder}/images.npy"))
labels = torch.from_numpy(np.load(f"{folder}/labels.npy"))
features = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
features += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
model = nn.Sequential(*features, nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
print(time.perf_counter() - began_s, flush=True)

for epoch, _ in enumerate(sys.stdin):
    optimizer.param_groups[0]["lr"] = 0.05 * 0.8**epoch
    order, total = torch.randperm(len(images)), 0.0
    began_s = time.perf_counter()
    for samples in order.split(batch):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[samples]), labels[samples])
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(time.perf_counter() - began_s, flush=True)
