"""Regularization paths here and in scikit-learn, in turn in one run: wall time, CPU time, and whether both agree.

python benchmarks/path.py [--rounds 3] [--quick]

Both sides have the same rows, λ, 5 folds and objective, and judge by the loss of unseen rows: features are standard
normal and standardized by neither. Ours goes from the array to the result and the run directory: the table is read and
checked, each λ is solved for each fold and for all rows. It is timed without the picture, as where matplotlib is not
installed, and with it. Theirs starts from the array and ends with the estimator.

Tolerances are set so that both sides' objectives are within 1e-8 of the minimum, relatively: on the training rows of
the first fold the objectives of both are compared at every λ, and all losses of unseen rows, fold by fold.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from interleaved import in_turn, machine, table
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoCV, LogisticRegression, LogisticRegressionCV, lasso_path
from sklearn.model_selection import GridSearchCV, KFold

import torchplug
from torchplug import TabularData, use
from torchplug.workflow import pictures
from torchplug.workflow.regularization_path import RegularizationPath

Array = NDArray[np.float64]
LASSO = {"model": "linear", "loss": "mse", "regularizers": [use("l1", proximal=True)], "optimizer": "proximal_newton"}
LOGISTIC = {"model": "linear", "loss": "bce", "regularizers": [use("l2")], "optimizer": "newton"}
_TIGHT = 1e-10
_LOGISTIC = 1e-5
"""Of the largest element of the gradient: with it lbfgs's objectives are within 1e-8 of the minimum."""


@dataclass(frozen=True)
class Job:
    """A path on both sides.

    Args:
        name: what it is.
        config: ours.
        rows: X (n, d) and y (n,).
        grid: λ, from large to small.
        fit: theirs; returns the estimator.
        losses: of unseen rows (folds, λ), of a fitted estimator.
        coefficients: theirs (λ, d + 1), the intercept last, on the training rows of the first fold, by the estimator's
            tolerance.
        objective: F of coefficients on some rows, at a λ.
    """

    name: str
    config: dict[str, Any]
    rows: tuple[Array, Array]
    grid: Array
    fit: Callable[[Array, Array], Any]
    losses: Callable[[Any], Array]
    coefficients: Callable[[Any, Array, Array], Array]
    objective: Callable[[Array, Array, Array, float], float]

    def ours(self, root: str) -> RegularizationPath:
        """From the array to the run directory."""
        return path(self.config, *self.rows, self.grid, list(KFold(5).split(self.rows[0])), root)

    def agreement(self, root: str) -> str:
        """How far both sides are from each other."""
        X, y = self.rows
        estimator, found = self.fit(X, y), self.ours(root)
        own, theirs = found.table.select("^fold_.*$").to_numpy().T, self.losses(estimator)
        first = next(KFold(5).split(X))[0]
        X, y = X[first], y[first]
        coefficients = path(self.config, X, y, self.grid, 2, root).coefficients
        assert coefficients is not None, "it is linear"
        mine = np.roll(coefficients.drop("coefficient").to_numpy(), -1, axis=1)
        both = zip(self.grid, mine, self.coefficients(estimator, X, y), strict=True)
        values = np.array([[self.objective(X, y, theta, value) for theta in thetas] for value, *thetas in both])
        above = values / values.min(axis=1, keepdims=True) - 1.0
        apart = np.abs(own / theirs - 1.0).max()
        return (
            f"{self.name}: objectives above the lower of both by at most {above[:, 0].max():.0e} here and "
            f"{above[:, 1].max():.0e} there; losses of unseen rows differ by at most {apart:.0e}"
        )


def path(config: dict[str, Any], X: Array, y: Array, grid: Array, folds: Any, root: str) -> RegularizationPath:
    """Ours, whose penalties act on the features as they are."""
    data = TabularData((X, y), split=[1.0], scale="none")
    tracking = {"mode": "disabled"}
    return torchplug.path(config, data, coefficient=list(grid), folds=folds, tracking=tracking, root=root)


def squared(X: Array, y: Array, theta: Array, value: float) -> float:
    """Mean squared error and λ Σ |w|."""
    return float(np.square(X @ theta[:-1] + theta[-1] - y).mean() + value * np.abs(theta[:-1]).sum())


def logistic(X: Array, y: Array, theta: Array, value: float) -> float:
    """Mean log loss and λ Σ w²."""
    margins = (2 * y - 1) * (X @ theta[:-1] + theta[-1])
    return float(np.logaddexp(0.0, -margins).mean() + value * theta[:-1] @ theta[:-1])


def jobs(n: int) -> Iterator[Job]:
    """The paths. Their alpha is λ/2, and C is 1/(2nλ) with the n of a fold's training rows."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((n, 100))
    scores = X[:, :20] @ generator.standard_normal(20)
    y = scores + 3.0 * generator.standard_normal(n)
    z = (generator.random(n) < 1.0 / (1.0 + np.exp(-scores))).astype(int)
    wide = np.geomspace(2.0, 2e-4, 100)
    yield Job(
        "lasso, d = 100, 100 λ: LassoCV",
        LASSO,
        (X, y),
        wide,
        lambda X, y: LassoCV(alphas=wide / 2, cv=KFold(5), tol=_TIGHT, max_iter=100_000).fit(X, y),
        lambda found: found.mse_path_.T,
        lambda found, X, y: lassos(X, y, wide),
        squared,
    )
    for d, points in ((100, 100), (32, 64)):
        grid = np.geomspace(1.0, 1e-6, points)
        Cs = 1.0 / (1.6 * n * grid)
        options = {"tol": _LOGISTIC, "max_iter": 10_000}
        if d == 100:
            yield Job(
                "logistic, d = 100, 100 λ: LogisticRegressionCV",
                LOGISTIC,
                (X, z),
                grid,
                lambda X, y, Cs=Cs, options=options: LogisticRegressionCV(  # type: ignore[misc]
                    Cs=Cs, cv=KFold(5), scoring="neg_log_loss", **options
                ).fit(X, y),
                lambda found: -np.asarray(found.scores_[1]),
                lambda found, X, y: np.asarray(found.coefs_paths_[1])[0],
                logistic,
            )
            continue
        model = LogisticRegression(**options)
        yield Job(
            "logistic, d = 32, 64 λ: GridSearchCV, n_jobs=2",
            LOGISTIC,
            (np.ascontiguousarray(X[:, :d]), z),
            grid,
            lambda X, y, Cs=Cs, model=model: GridSearchCV(  # type: ignore[misc]
                model, {"C": Cs}, cv=KFold(5), scoring="neg_log_loss", n_jobs=2
            ).fit(X, y),
            lambda found: -np.array([found.cv_results_[f"split{fold}_test_score"] for fold in range(5)]),
            lambda found, X, y, Cs=Cs, model=model: fits(model, Cs, X, y),  # type: ignore[misc]
            logistic,
        )


def lassos(X: Array, y: Array, grid: Array) -> Array:
    """As LassoCV fits a fold."""
    mean, level = X.mean(axis=0), y.mean()
    _, slopes, _ = lasso_path(X - mean, y - level, alphas=grid / 2, tol=_TIGHT, max_iter=100_000)
    return np.column_stack([slopes.T, level - slopes.T @ mean])


def fits(model: LogisticRegression, Cs: Array, X: Array, y: Array) -> Array:
    """As GridSearchCV fits a fold."""
    fitted = [LogisticRegression(**{**model.get_params(), "C": C}).fit(X, y) for C in Cs]
    return np.array([[*own.coef_[0], own.intercept_[0]] for own in fitted])


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds, the latter of this process and of its children."""
    wall, before = time.perf_counter(), _cpu()
    work()
    return time.perf_counter() - wall, _cpu() - before


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(own.ru_utime + own.ru_stime for own in used) + sum(map(_cpu_of, _children()))


def _children() -> list[int]:
    """Processes of joblib, which stay for the next call (Linux)."""
    return [int(own) for file in Path("/proc/self/task").glob("*/children") for own in file.read_text().split()]


def _cpu_of(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def without_pictures() -> Iterator[None]:
    """As where matplotlib is not installed."""
    available = pictures.available
    pictures.available = lambda: False  # type: ignore[assignment]
    try:
        yield
    finally:
        pictures.available = available  # type: ignore[assignment]


def main() -> None:
    """Print whether both sides agree, and a table of their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    options = parser.parse_args()
    for category in (ConvergenceWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    n = 2000 if options.quick else 20_000
    print(f"{machine('scikit-learn', 'numpy', 'polars')}; n = {n}, 5 folds; medians of {options.rounds}")
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for job in jobs(n):
            print(job.agreement(root), flush=True)

            def plain(job: Job = job) -> RegularizationPath:
                with without_pictures():
                    return job.ours(root)

            contestants: dict[str, Callable[[], object]] = {
                "without": plain,
                "theirs": lambda job=job: job.fit(*job.rows),  # type: ignore[misc]
                "with": lambda job=job: job.ours(root),  # type: ignore[misc]
            }
            timed = in_turn({name: lambda run=run: measured(run) for name, run in contestants.items()}, options.rounds)  # type: ignore[misc]
            (wall, cpu), (their_wall, their_cpu), (drawn, drawn_cpu) = (
                [statistics.median(kind) for kind in zip(*own, strict=True)] for own in timed.values()
            )
            seconds = [f"{value:.2f}" for value in (wall, cpu, drawn, drawn_cpu, their_wall, their_cpu)]
            ratios = [their_wall / wall, their_cpu / cpu, their_wall / drawn, their_cpu / drawn_cpu]
            rows.append([job.name, *seconds, *(f"{ratio:.1f}" for ratio in ratios)])
    ours = ("ours", "CPU", "with the picture", "CPU")
    times = ("times faster", "by CPU", "with the picture", "by CPU")
    print(table(("seconds", *ours, "theirs", "CPU", *times), rows))


if __name__ == "__main__":
    main()
