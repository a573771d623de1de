"""Training by minibatches, this library and its peers side by side: tables, plots, and the figures that are asked for.

python benchmarks/run.py [--quick] [--output FOLDER] [--only NAME ...]

Every cell (a job at a batch size) has a process of its own, in which the contestants train in turn, several times.
The page is FOLDER/training.md, the plots beside it are training.png and growth.png. Leave the machine alone meanwhile:
with two threads on two busy cores, threads wait for each other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from interleaved import ratio
from training import names
from training.cells import Cell, CellResult, RanksResult, classifier_cells, ranks_cells, training_cells
from training.plots import plot_cells, plot_growth
from training.points import Cost, Point, points
from training.report import Results, page

_HERE = Path(__file__).parent
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_TWO_PROCESSES = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")

Job = Callable[[Results], str]
"""Measures something, adds it to the results, and says it in a line."""


def in_process(module: str, given: Cell | Point, threads: int = 2, launcher: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a module of `training` measures in a process of its own.

    Args:
        module: its name.
        given: what it is told.
        threads: that libraries of linear algebra may take.
        launcher: what starts it, where it is not started by itself.

    Raises:
        RuntimeError: with the last lines of what it said, if it fails.
    """
    environment = os.environ | dict.fromkeys(_THREADS, str(threads)) | {"PYTHONPATH": _search_path()}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", *launcher, f"training.{module}", json.dumps(asdict(given)), str(result)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(" / ".join(done.stderr.strip().splitlines()[-3:]))
        measured: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return measured


def _search_path() -> str:
    before = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(_HERE), before] if before else [str(_HERE)])


def run_cell(cell: Cell, kind: str, results: Results) -> str:
    """All contestants of a cell."""
    result = CellResult.of(in_process("cell", cell))
    (results.cells if kind == "cells" else results.classifiers).append(result)
    times = {name: statistics.median(m.seconds) / cell.steps for name, m in result.measured.items()}
    shown = (names.OURS, names.BARE, names.BARE_FUSED, names.LIGHTNING, names.SKLEARN_MLP)
    return ", ".join(f"{name} {1e6 * times[name]:.1f}" for name in shown if name in times) + " µs a step"


def run_ranks(cell: Cell, results: Results) -> str:
    """One process and two, in turn."""
    one: list[dict[str, Any]] = []
    two: list[dict[str, Any]] = []
    for _ in range(cell.repeats):
        one.append(in_process("ranks", cell, threads=1))
        two.append(in_process("ranks", cell, threads=1, launcher=_TWO_PROCESSES))
    seconds = [[second for repeat in repeats for second in repeat["seconds"]] for repeats in (one, two)]
    result = RanksResult(cell, seconds[0], seconds[1], (one[-1]["loss"], two[-1]["loss"]))
    results.ranks.append(result)
    return f"two processes {ratio(result.one, result.two):.2f} times as fast as one"


def run_point(point: Point, results: Results) -> str:
    """What a sample costs at a point."""
    cost = Cost.of(in_process("growth", point))
    results.costs.append(cost)
    return f"{1e9 * cost.median:.0f} ns a sample, {cost.held / 2**20:.0f} MiB held for {point.data / 2**20:.0f} of data"


def jobs(quick: bool) -> dict[str, Job]:
    """All that there is to measure, by name."""
    return {
        **{cell.name: partial(run_cell, cell, "cells") for cell in training_cells(quick)},
        **{cell.name: partial(run_cell, cell, "classifiers") for cell in classifier_cells(quick)},
        **{cell.name: partial(run_ranks, cell) for cell in ranks_cells(quick)},
        **{point.name: partial(run_point, point) for point in points(quick)},
    }


def measure(chosen: dict[str, Job]) -> Results:
    """Run one after the other, and say how it goes."""
    results = Results()
    for number, (name, job) in enumerate(chosen.items(), 1):
        start = time.monotonic()
        try:
            line = job(results)
        except RuntimeError as error:  # the others may still run, and the page says that this one did not
            line = f"failed: {error}"
            results.failures.append(f"{name}: {error}")
        print(f"[{number}/{len(chosen)}] {name}: {line} ({time.monotonic() - start:.0f} s)", flush=True)
    return results


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rows, few repeats, fewer cells")
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark"), metavar="FOLDER", help="for the results")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cells whose names begin so, such as mlp growth-rows")
    arguments = parser.parse_args()
    all_jobs = jobs(arguments.quick)
    chosen = {n: job for n, job in all_jobs.items() if n.startswith(tuple(arguments.only or [""]))}
    if not chosen:
        parser.error(f"--only: there are {', '.join(all_jobs)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    results = measure(chosen)
    text = page(results, arguments.quick)
    (arguments.output / "training.md").write_text(text, encoding="utf-8")
    if cells := [*results.cells, *results.classifiers]:
        plot_cells(cells, arguments.output / "training.png")
    if results.costs:
        plot_growth(results.costs, arguments.output / "growth.png")
    print(f"\n{text}\n{arguments.output}: training.md, training.png, growth.png")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
