"""Logistic regression against scikit-learn's solvers: milliseconds to a relative suboptimality of 1e-8.

python benchmarks/logistic.py [--quick]

Float64, no intercept. Each solver runs with falling tolerances; the loosest that reaches the target is then timed, the
contestants in turn. L2: C = 1. L1: 0.03 of the strength from which on every coefficient is zero, against liblinear.
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import lightning
import numpy as np
import torch
from in_memory import InMemory
from interleaved import machine, race, ratio, spread, table
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from torchplug import ComponentModule, Objective, use
from torchplug.components.builtin.losses import BCE
from torchplug.components.builtin.regularizers import L1, L2
from torchplug.components.models import Linear
from torchplug.data.loaders import FullBatchLoader
from torchplug_second_order.optimizers import newton
from torchplug_second_order.proximal_newton import ProximalNewton

TARGET = 1e-8
TOLERANCES = tuple(10.0**-k for k in range(2, 13))
Solver = Callable[[float], Tensor]


def problem(n: int, d: int) -> InMemory:
    """Features of condition 30 and unit variance, labels by a sparse linear score."""
    g = torch.Generator().manual_seed(0)
    normal = partial(torch.randn, generator=g, dtype=torch.float64)
    basis = torch.linalg.qr(normal(d, d))[0]
    X = normal(n, d) @ (torch.logspace(0, -np.log10(30), d, dtype=torch.float64)[:, None] * basis.mT)
    X /= X.std()
    z = X @ (normal(d) * (torch.rand(d, generator=g) < 0.2))
    probability = torch.sigmoid(2 * z / z.std())
    return InMemory(X, (torch.rand(n, generator=g, dtype=torch.float64) < probability).double()[:, None])


def value(rows: InMemory, weights: Tensor, l2: float, l1: float) -> float:
    """The objective, written out."""
    margin = (2 * rows.target[:, 0] - 1) * (rows.features @ weights)
    loss = torch.nn.functional.softplus(-margin).mean()
    return float(loss + l2 * weights.square().sum() + l1 * weights.abs().sum())


def torchplug(rows: InMemory, l2: float, l1: float, tolerance: float) -> Tensor:
    """The shipped optimizers, stepping on the shipped objective."""
    model = Linear(rows.features.shape[1], 1, bias=False).double()
    penalties = [L2(l2)] if l2 else [L1(l1, proximal=True)]
    objective = Objective(model, BCE(), penalties, rows)
    if l2:
        optimizer = newton(model.parameters(), loss_tolerance=tolerance)
    else:
        optimizer = ProximalNewton(model.parameters(), loss_tolerance=tolerance)
        optimizer.prox = {model.map.weight: penalties[0].prox}
    while optimizer.outcome is None:
        optimizer.step(objective.value, objective=objective)
    return model.map.weight.detach()[0].clone()


def trained(rows: InMemory, l2: float, l1: float, tolerance: float) -> Tensor:
    """The same through Lightning's Trainer."""
    model = nn.Linear(rows.features.shape[1], 1, bias=False).double()
    nn.init.zeros_(model.weight)
    penalty = use("l2", coefficient=l2) if l2 else use("l1", coefficient=l1, proximal=True)
    optimizer = use("newton" if l2 else "proximal_newton", loss_tolerance=tolerance)
    module = ComponentModule(model, "bce", optimizer, [penalty])
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=200,
        precision="64-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, FullBatchLoader(rows))
    return model.weight.detach()[0].clone()


def peer(rows: InMemory, l2: float, l1: float, solver: str, tolerance: float) -> Tensor:
    """One of scikit-learn's solvers."""
    n = len(rows.features)
    strength = {"C": 1 / (2 * n * l2)} if l2 else {"C": 1 / (n * l1), "l1_ratio": 1.0}
    model = LogisticRegression(solver=solver, fit_intercept=False, tol=tolerance, max_iter=5000, **strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(rows.features.numpy(), rows.target[:, 0].numpy())
    return torch.from_numpy(model.coef_[0].copy())


def loosest(rows: InMemory, solver: Solver, best: float, l2: float, l1: float) -> float | None:
    """The loosest tolerance with which a solver reaches the target."""
    for tolerance in TOLERANCES:
        if value(rows, solver(tolerance), l2, l1) - best <= TARGET * best:
            return tolerance
    return None


def compare(n: int, d: int, penalty: str, rounds: int) -> None:
    """Print one problem's table."""
    rows = problem(n, d)
    strongest = float((rows.features.mT @ (rows.target - 0.5)).abs().max()) / n
    l2, l1 = (1 / (2 * n), 0.0) if penalty == "l2" else (0.0, 0.03 * strongest)
    exact = torchplug(rows, l2, l1, 1e-16)
    best = value(rows, exact, l2, l1)
    solvers: Mapping[str, Solver] = {
        "torchplug": partial(torchplug, rows, l2, l1),
        "torchplug, through the Trainer": partial(trained, rows, l2, l1),
        **{
            f"scikit-learn {name}": partial(peer, rows, l2, l1, name)
            for name in (("newton-cholesky", "lbfgs", "newton-cg") if l2 else ("liblinear",))
        },
    }
    tolerances = {name: loosest(rows, solver, best, l2, l1) for name, solver in solvers.items()}
    reached = {name: tolerance for name, tolerance in tolerances.items() if tolerance is not None}
    contestants = {name: partial(solvers[name], tolerance) for name, tolerance in reached.items()}
    seconds = race(contestants, rounds)
    lines = []
    for name, tolerance in tolerances.items():
        if tolerance is None:
            lines.append((name, "–", "not reached", "–"))
        else:
            lines.append(
                (name, spread(seconds[name]), f"{tolerance:.0e}", f"{ratio(seconds[name], seconds['torchplug']):.2f}")
            )
    kept = f", {int((exact != 0).sum())} coefficients not zero" if l1 else ""
    print(f"\n{penalty.upper()}, n = {n:,}, d = {d}{kept}\n")
    print(table(("solver", "ms, median (range)", "tolerance", "times ours"), lines), flush=True)


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one round")
    quick = parser.parse_args().quick
    torch.set_num_threads(os.cpu_count() or 1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    print(machine("lightning", "scikit-learn"))
    for penalty in ("l2", "l1"):
        for n, d in ((200_000, 100), (20_000, 1000)):
            compare(n // 10 if quick else n, d, penalty, 1 if quick else 3)


if __name__ == "__main__":
    main()
