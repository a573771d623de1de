"""What a sample costs at a point, in a process of its own: `python -m training.growth POINT RESULT`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from training import memory
from training.cells import Cell
from training.loops import bare_loop
from training.ours import torchplug
from training.points import Cost, Point
from training.problem import problem_of
from training.surroundings import THREADS, quieten


class Gauge(Callback):
    """Memory before the first step: the most until then, and what is held."""

    def __init__(self) -> None:
        self.prepared = self.held = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read it, and measure the peak anew."""
        self.prepared, self.held = memory.peak(), memory.resident()
        memory.forget_peak()


def measure(point: Point) -> Cost:
    """Train this library with logging on, then the bare loop.

    What is imported and made once is no matter of the data: a small training comes first.
    """
    hidden = (point.width, point.width)
    cell = Cell("growth", "mse", hidden, 1, "synthetic", point.rows, point.batch, point.epochs, 1, (), point.features)
    torchplug(problem_of(replace(cell, rows=2 * point.batch), epochs=2))
    problem = problem_of(cell, 1 + point.epochs)
    gauge = Gauge()
    memory.forget_peak()
    user = memory.resident()
    trained = torchplug(problem, callbacks=[gauge])
    peak = memory.peak()
    bare = bare_loop(problem, fused=True)
    return Cost(
        point,
        [second / point.rows for second in trained.seconds[1:]],
        [second / point.rows for second in bare.seconds[1:]],
        prepared=gauge.prepared - user,
        held=gauge.held - user,
        training=peak - gauge.held,
    )


def main() -> None:
    """Measure the point that the arguments describe."""
    torch.set_num_threads(THREADS)
    quieten()
    cost = measure(Point(**json.loads(sys.argv[1])))
    Path(sys.argv[2]).write_text(json.dumps(asdict(cost)), encoding="utf-8")


if __name__ == "__main__":
    main()
