"""One cell, in a process of its own: `python -m training.cell CELL RESULT`, as JSON, and the file for it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import torch
from interleaved import in_turn
from torch import nn

from training import loops, names, ours, peers
from training.cells import CHECKED_STEPS, CellResult, Measured, cell_of
from training.problem import Contestant, Problem, Trained, problem_of
from training.surroundings import THREADS, quieten

CONTESTANTS: dict[str, Contestant] = {
    names.OURS: ours.torchplug,
    names.OURS_AUTOGRAD: partial(ours.torchplug, engine="autograd"),
    names.OURS_COMPILED: partial(ours.torchplug, engine="compiled"),
    names.OURS_SILENT: partial(ours.torchplug, logging=False),
    names.BARE: loops.bare_loop,
    names.BARE_FUSED: partial(loops.bare_loop, fused=True),
    names.LIGHTNING: peers.plain_lightning,
    names.SKORCH: peers.skorch,
    names.SKLEARN_MLP: peers.sklearn_mlp,
    names.SKLEARN_SGD: peers.sklearn_sgd,
    names.KERAS: peers.keras,
}


def _flat(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten().double() for p in network.parameters()])


def same_work(problem: Problem, who: dict[str, Contestant]) -> tuple[dict[str, Measured], dict[str, str]]:
    """A few steps over the rows as they stand, to show that everybody does the same; and who cannot take part."""
    rows = CHECKED_STEPS * problem.cell.batch
    features, target = problem.features[:rows], problem.target[:rows]
    problem = replace(problem, features=features, target=target, epochs=1, shuffle=False)
    # the network of the loop is what the others are held against
    reference, start = _flat(loops.bare_loop(problem).network), _flat(problem.initial)
    moved = (reference - start).norm()
    measured, absent = {}, {}
    for name, contestant in who.items():
        try:
            trained = contestant(problem)
        except Exception as error:  # a peer that is not installed, an engine that there is not: the others go on
            absent[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            continue
        distance = float((_flat(trained.network) - reference).norm() / moved)
        measured[name] = Measured(trained.seconds[0], problem.loss_of(trained.network), distance)
    return measured, absent


def run(problem: Problem) -> CellResult:
    """Let everybody train in turn."""
    cell = problem.cell
    measured, absent = same_work(problem, {name: CONTESTANTS[name] for name in cell.contestants})
    contestants = {name: partial(CONTESTANTS[name], problem) for name in measured}
    trained: dict[str, list[Trained]] = in_turn(contestants, cell.repeats)
    for name, repeats in trained.items():
        measured[name].seconds = [second for repeat in repeats for second in repeat.seconds[1:]]
        measured[name].losses = [problem.loss_of(repeat.network) for repeat in repeats]
    return CellResult(cell, measured, absent, problem.loss_of(problem.initial))


def main() -> None:
    """Run the cell that the arguments describe."""
    torch.set_num_threads(THREADS)
    quieten()
    cell = cell_of(json.loads(sys.argv[1]))
    result = run(problem_of(cell, 1 + cell.epochs))
    Path(sys.argv[2]).write_text(json.dumps(result.plain()), encoding="utf-8")


if __name__ == "__main__":
    main()
