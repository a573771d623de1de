"""Closed-form least squares against scikit-learn's LinearRegression, side by side in one run.

    python benchmarks/closed_form.py [--quick]

Prints Markdown. Times are of interleaved repeats on all cores, with an intercept; memory is the peak beyond the data.
Errors are relative to the norm of the coefficients, for features of condition number 1e8 without an intercept, against
a solution refined in extended precision.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn
import torch
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from torchplug import Objective
from torchplug.batch import Rows
from torchplug.builtin.losses import MSE
from torchplug_second_order.least_squares import solve

CONDITION = 1e8


class InMemory(NamedTuple):
    """A training set of tensors."""

    features: Tensor
    target: Tensor
    weight: Tensor

    @property
    def samples(self) -> int:
        """The number of rows."""
        return len(self.weight)

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`."""
        return Rows(self.features[start:stop], self.target[start:stop], self.weight[start:stop])


def problem(n: int, d: int, condition: float = 1.0) -> InMemory:
    """Normal features of that condition number, and a target with a little noise."""
    generator = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(normal(d, d))[0]
    features = normal(n, d) @ (torch.logspace(0, -np.log10(condition), d, dtype=torch.float64)[:, None] * basis.mT)
    target = features @ basis @ normal(d)
    target += 1e-3 * target.std() * normal(n)
    return InMemory(features, target[:, None], torch.ones(n, dtype=torch.float64))


def torchplug(method: str, rows: InMemory, intercept: bool = True) -> Tensor:
    """The coefficients (d,), by what `closed_form` does."""
    network = nn.Linear(rows.features.shape[1], 1, bias=intercept, dtype=torch.float64)
    design = Objective(network, MSE(), [], rows).design(method)
    assert design is not None
    return solve(design.factor, 1, intercept=intercept, rows=rows.samples).coefficients[int(intercept) :, 0]


def peer(rows: InMemory, intercept: bool = True) -> Tensor:
    """The coefficients (d,), by scikit-learn."""
    model = LinearRegression(fit_intercept=intercept).fit(rows.features.numpy(), rows.target.numpy())
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


@contextmanager
def peak_memory(found: list[float]) -> Iterator[None]:
    """Append the MiB by which the process grew at most; NaN where the system does not tell."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        yield
        found.append(float("nan"))
        return

    def mebibytes(key: str) -> float:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key)) / 1024

    reset.write_text("5")
    before = mebibytes("VmRSS")
    yield
    found.append(mebibytes("VmHWM") - before)


def interleaved(methods: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, tuple[list[float], float]]:
    """Seconds of each repeat and peak MiB, by method; every round runs each once, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    memory: dict[str, list[float]] = {name: [] for name in methods}
    for counts in [False] + [True] * repeats:
        for name, method in methods.items():
            start = time.perf_counter()
            with peak_memory(memory[name]):
                method()
            if counts:
                seconds[name].append(time.perf_counter() - start)
    return {name: (seconds[name], max(memory[name])) for name in methods}


def compare(n: int, d: int, accuracy_rows: int, repeats: int) -> None:
    """Print the table of methods."""
    rows = problem(n, d)
    single = InMemory(rows.features.float(), rows.target.float(), rows.weight.float())
    name = f"scikit-learn {sklearn.__version__}"
    found = interleaved(
        {
            f"{name}, float64": partial(peer, rows),
            "qr, float64": partial(torchplug, "qr", rows),
            "gram, float64": partial(torchplug, "gram", rows),
            f"{name}, float32": partial(peer, single),
            "qr, float32 data": partial(torchplug, "qr", single),
            "gram, float32 data": partial(torchplug, "gram", single),
        },
        repeats,
    )
    hard = problem(accuracy_rows, d, CONDITION)
    exact = refined(hard)
    solutions = {
        f"{name}, float64": peer(hard, intercept=False),
        "qr, float64": torchplug("qr", hard, intercept=False),
        "gram, float64": torchplug("gram", hard, intercept=False),
    }
    print(
        f"n = {n:,}, d = {d}, {torch.get_num_threads()} threads, {repeats} repeats; errors at n = {accuracy_rows:,}\n"
    )
    print("| method | ms, median [min–max] | times faster | peak extra MiB | error at condition 1e8 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for method, (seconds, memory) in found.items():
        base = found[f"{name}, {'float32' if 'float32' in method else 'float64'}"][0]
        ratio = statistics.median(base) / statistics.median(seconds)
        error = float((solutions[method] - exact).norm() / exact.norm()) if method in solutions else None
        shown = "" if error is None else f"{error:.0e}"
        print(f"| {method} | {spread(seconds)} | {ratio:.1f} | {memory:.0f} | {shown} |")


def spread(seconds: list[float]) -> str:
    """Median and range in milliseconds."""
    low, middle, high = (1e3 * f(seconds) for f in (min, statistics.median, max))
    return f"{middle:.0f} [{low:.0f}–{high:.0f}]"


def one_rank(rank: int, world: int, meeting: str, rows: InMemory, repeats: int, results: list[float]) -> None:
    """Time the design on one thread, among `world` processes."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    for repeat in range(repeats + 1):
        torch.distributed.barrier()
        start = time.perf_counter()
        torchplug("qr", rows)
        if rank == 0 and repeat > 0:
            results.append(time.perf_counter() - start)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def two_processes(n: int, d: int, repeats: int) -> None:
    """Print one process of one thread against two."""
    rows = InMemory(*(part.share_memory_() for part in problem(n, d)))
    seconds: dict[int, list[float]] = {}
    with torch.multiprocessing.Manager() as manager, tempfile.TemporaryDirectory() as folder:
        for world in (1, 2):
            results = manager.list()
            arguments = (world, f"file://{folder}/{world}", rows, repeats, results)
            torch.multiprocessing.spawn(one_rank, arguments, nprocs=world)
            seconds[world] = list(results)
    print("\n| qr, float64, one thread each | ms, median [min–max] | times faster |\n| --- | ---: | ---: |")
    for world, name in ((1, "one process"), (2, "two processes")):
        ratio = statistics.median(seconds[1]) / statistics.median(seconds[world])
        print(f"| {name} | {spread(seconds[world])} | {ratio:.2f} |")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows and of the accuracy's, 2 repeats")
    quick = parser.parse_args().quick
    torch.set_num_threads(os.cpu_count() or 1)
    n, accuracy_rows, repeats = (100_000, 20_000, 2) if quick else (1_000_000, 200_000, 5)
    compare(n, 100, accuracy_rows, repeats)
    two_processes(n, 100, repeats)


if __name__ == "__main__":
    main()
