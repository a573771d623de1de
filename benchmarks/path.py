"""Regularization paths here and in scikit-learn, side by side in one run: wall time and CPU time.

python benchmarks/path.py [--repeats 3] [--quick]

Both sides use the same folds and λ, and judge by the loss of unseen rows. Ours includes reading and standardizing
the table, all coefficients along the path and the run directory with its picture; theirs starts from an
array.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LassoCV, LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GridSearchCV, KFold

import torchplug
from torchplug import TabularData, use

LASSO = {"model": "linear", "loss": "mse", "regularizers": [use("l1", proximal=True)], "optimizer": "proximal_newton"}
LOGISTIC = {"model": "linear", "loss": "bce", "regularizers": [use("l2")], "optimizer": "newton"}


def cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(own.ru_utime + own.ru_stime for own in used)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, before = time.perf_counter(), cpu()
    work()
    return time.perf_counter() - wall, cpu() - before


def ours(config: dict[str, object], X: np.ndarray, y: np.ndarray, ends: str, points: int, root: str) -> object:
    """The path from the table to the run directory."""
    folds = list(KFold(5).split(X))
    data = TabularData((X, y), split=[1.0])
    tracking = {"mode": "disabled"}
    return torchplug.path(config, data, coefficient=ends, points=points, folds=folds, tracking=tracking, root=root)


def main() -> None:
    """Print a table of both sides and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    options = parser.parse_args()
    n, generator = 2000 if options.quick else 20_000, np.random.default_rng(0)
    X = generator.standard_normal((n, 100))
    scores = X[:, :20] @ generator.standard_normal(20)
    y = scores + 3.0 * generator.standard_normal(n)
    z = (generator.random(n) < 1.0 / (1.0 + np.exp(-scores))).astype(int)
    Cs = [1.0 / (1.6 * n * value) for value in np.geomspace(1.0, 1e-6, 100)]
    grid = {"C": [1.0 / (1.6 * n * value) for value in np.geomspace(1.0, 1e-6, 64)]}
    X32 = np.ascontiguousarray(X[:, :32])
    alphas = np.geomspace(1.0, 1e-4, 100)
    exact = LogisticRegression(tol=1e-6, max_iter=10_000)
    with tempfile.TemporaryDirectory() as root:
        jobs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "lasso, d = 100, 100 λ: LassoCV": (
                lambda: ours(LASSO, X, y, "log(2e-4,2)", 100, root),
                lambda: LassoCV(alphas=alphas, cv=KFold(5)).fit(X, y),
            ),
            "logistic, d = 100, 100 λ: LogisticRegressionCV": (
                lambda: ours(LOGISTIC, X, z, "log(1e-6,1)", 100, root),
                lambda: LogisticRegressionCV(Cs=Cs, cv=KFold(5), scoring="neg_log_loss", tol=1e-6, max_iter=10_000).fit(
                    X, z
                ),
            ),
            "logistic, d = 32, 64 λ: GridSearchCV, n_jobs=2": (
                lambda: ours(LOGISTIC, X32, z, "log(1e-6,1)", 64, root),
                lambda: GridSearchCV(exact, grid, cv=KFold(5), scoring="neg_log_loss", n_jobs=2).fit(X32, z),
            ),
        }
        ours(LASSO, X[:200], y[:200], "log(2e-4,2)", 5, root)  # imports
        print(f"n = {n}, 5 folds; medians of {options.repeats}")
        for name, sides in jobs.items():
            rounds = [[timed(side) for side in sides] for _ in range(options.repeats)]
            (wall, used), (their_wall, their_used) = (
                tuple(statistics.median(side[kind] for side in sides) for kind in (0, 1))
                for sides in zip(*rounds, strict=True)
            )
            print(
                f"{name:47s} ours {wall:6.2f} s wall {used:6.2f} s CPU; theirs {their_wall:6.2f}, {their_used:6.2f}; "
                f"ratios {their_wall / wall:.1f} and {their_used / used:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
