"""Closed-form least squares against scikit-learn's LinearRegression, side by side in one run.

    python benchmarks/closed_form.py [--quick]

Prints Markdown. Times are of interleaved rounds on all cores, with an intercept; memory is the peak beyond the data.
Errors are relative to the norm of the coefficients, for features of condition number 1e8 without an intercept, against
a solution refined in extended precision.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from in_memory import InMemory
from interleaved import machine, race, ratio, spread, table
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from torchplug import Objective
from torchplug.components.builtin.losses import MSE
from torchplug_second_order.least_squares import solve

CONDITION = 1e8


def problem(n: int, d: int, condition: float = 1.0) -> InMemory:
    """Normal features of that condition number, and a target with a little noise."""
    generator = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(normal(d, d))[0]
    features = normal(n, d) @ (torch.logspace(0, -np.log10(condition), d, dtype=torch.float64)[:, None] * basis.mT)
    target = features @ basis @ normal(d)
    target += 1e-3 * target.std() * normal(n)
    return InMemory(features, target[:, None])


def torchplug(method: str, rows: InMemory, intercept: bool = True) -> Tensor:
    """The coefficients (d,), by what `closed_form` does."""
    network = nn.Linear(rows.features.shape[1], 1, bias=intercept, dtype=torch.float64)
    design = Objective(network, MSE(), [], rows).design(method)
    assert design is not None
    return solve(design.factor, 1, intercept=intercept, rows=rows.samples).coefficients[int(intercept) :, 0]


def peer(rows: InMemory, intercept: bool = True) -> Tensor:
    """The coefficients (d,), by scikit-learn; its own tolerance of 1e-6 would cut off half of a hard problem."""
    model = LinearRegression(fit_intercept=intercept, tol=1e-14).fit(rows.features.numpy(), rows.target.numpy())
    return torch.from_numpy(model.coef_[0].astype(np.float64))


def refined(rows: InMemory) -> Tensor:
    """The coefficients (d,) without an intercept, corrected in extended precision until nothing changes."""
    factor = np.linalg.qr(rows.features.numpy(), mode="r")
    wide = [part.numpy().astype(np.longdouble) for part in (rows.features, rows.target[:, 0])]
    solution = torchplug("qr", rows, intercept=False).numpy().astype(np.longdouble)
    for _ in range(6):
        gradient = (wide[0].T @ (wide[1] - wide[0] @ solution)).astype(np.float64)
        solution += np.linalg.solve(factor, np.linalg.solve(factor.T, gradient))
    return torch.from_numpy(solution.astype(np.float64))


def watched(method: Callable[[], Tensor], peaks: list[float]) -> Callable[[], Tensor]:
    """The method, noting the MiB by which the process grew at most; NaN where the system does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def mebibytes(key: str) -> float:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key)) / 1024

    def run() -> Tensor:
        if not reset.exists():
            peaks.append(float("nan"))
            return method()
        reset.write_text("5")
        before = mebibytes("VmRSS")
        solution = method()
        peaks.append(mebibytes("VmHWM") - before)
        return solution

    return run


def compare(n: int, d: int, accuracy_rows: int, rounds: int) -> None:
    """Print the table of methods."""
    rows = problem(n, d)
    single = InMemory(rows.features.float(), rows.target.float())
    methods = {"scikit-learn": peer, "qr": partial(torchplug, "qr"), "gram": partial(torchplug, "gram")}
    peaks: dict[str, list[float]] = {}
    contestants = {}
    for precision, data in (("float64", rows), ("float32", single)):
        for name, method in methods.items():
            key = f"{name}, {precision} data"
            contestants[key] = watched(partial(method, data), peaks.setdefault(key, []))
    seconds = race(contestants, rounds)
    hard = problem(accuracy_rows, d, CONDITION)
    exact = refined(hard)
    errors = {
        name: float((method(hard, intercept=False) - exact).norm() / exact.norm()) for name, method in methods.items()
    }
    lines = []
    for key, mine in seconds.items():
        name, precision = key.split(", ")
        faster = ratio(seconds[f"scikit-learn, {precision}"], mine)
        error = f"{errors[name]:.0e}" if precision == "float64 data" else ""
        lines.append((key, spread(mine), f"{faster:.1f}", f"{max(peaks[key]):.0f}", error))
    print(f"n = {n:,}, d = {d}, {torch.get_num_threads()} threads, {rounds} rounds; errors at n = {accuracy_rows:,}\n")
    header = ("method", "ms, median (range)", "times faster", "peak extra MiB", "error at condition 1e8")
    print(table(header, lines))


def one_rank(rank: int, world: int, meeting: str, rows: InMemory, rounds: int, results: list[float]) -> None:
    """Time the design on one thread, among `world` processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    for turn in range(rounds + 1):
        torch.distributed.barrier()
        start = time.perf_counter()
        torchplug("qr", rows)
        if rank == 0 and turn > 0:
            results.append(time.perf_counter() - start)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def two_processes(n: int, d: int, rounds: int) -> None:
    """Print one process of one thread against two."""
    rows = problem(n, d)
    for part in (rows.features, rows.target, rows.weight):
        part.share_memory_()
    seconds: dict[int, list[float]] = {}
    with torch.multiprocessing.Manager() as manager, tempfile.TemporaryDirectory() as folder:
        for world in (1, 2):
            results = manager.list()
            arguments = (world, f"file://{folder}/{world}", rows, rounds, results)
            torch.multiprocessing.spawn(one_rank, arguments, nprocs=world)
            seconds[world] = list(results)
    print(f"\nqr, float64, n = {n:,}, d = {d}, one thread for each process\n")
    lines = [(world, spread(mine), f"{ratio(seconds[1], mine):.2f}") for world, mine in seconds.items()]
    print(table(("processes", "ms, median (range)", "times faster"), lines))


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows and of the accuracy's, 2 rounds")
    quick = parser.parse_args().quick
    torch.set_num_threads(os.cpu_count() or 1)
    n, accuracy_rows, rounds = (100_000, 20_000, 2) if quick else (1_000_000, 200_000, 5)
    print(machine("scikit-learn"), end="; ")
    compare(n, 100, accuracy_rows, rounds)
    two_processes(n, 100, rounds)


if __name__ == "__main__":
    main()
