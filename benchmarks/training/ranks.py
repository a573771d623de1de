"""Data-parallel training, as one rank: `python -m training.ranks CELL RESULT`, by itself or under torchrun.

Each rank takes the cell's batch and runs on one thread; an epoch is over the whole table in any case.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from training.cells import cell_of
from training.ours import torchplug
from training.problem import problem_of
from training.surroundings import quieten


def main() -> None:
    """Train as the arguments say; rank 0 writes the seconds of each epoch that counts, and the loss."""
    torch.set_num_threads(1)
    quieten()
    cell = cell_of(json.loads(sys.argv[1]))
    problem = problem_of(cell, 1 + cell.epochs)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    trained = torchplug(problem, ranks=world)
    if int(os.environ.get("RANK", "0")) == 0:
        result = {"seconds": trained.seconds[1:], "loss": problem.loss_of(trained.network)}
        Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")
    if world > 1:  # gloo ends badly where a rank leaves before the others
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
