"""Levenberg-Marquardt on small networks: milliseconds until the training MSE falls to 1e-6, against its peers.

python benchmarks/levenberg_marquardt.py [--quick]

All start at the same weights of the same problems, in float64 on one thread. A ratio is over the seeds both solved.
Peers come with `pip install 'torchplug[bench]'`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import suppress

import numpy as np
import torch
from in_memory import InMemory
from interleaved import machine, spread, table
from scipy.optimize import least_squares
from torch import Tensor, nn
from torch_levenberg_marquardt import loss as peer_loss
from torch_levenberg_marquardt import training as peer_training

from torchplug import Objective
from torchplug.components.builtin.losses import MSE
from torchplug_second_order.optimizers import levenberg_marquardt

TARGET = 1e-6
LIMIT_SECONDS = 20.0
PROBLEMS = ((1, 20, 500), (5, 32, 2000))


def problem(inputs: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """A smooth function of one input, or what another network computes of several; targets of deviation 1."""
    g = torch.Generator().manual_seed(100 + seed)
    X = torch.rand(rows, inputs, generator=g, dtype=torch.float64) * 2 - 1
    if inputs == 1:
        y = torch.sin(4 * X) + 0.3 * torch.cos(9 * X)
    else:
        y = torch.tanh(X @ torch.randn(inputs, 8, generator=g, dtype=torch.float64))
        y = y @ torch.randn(8, 1, generator=g, dtype=torch.float64)
    return X, y / y.std()


def network(inputs: int, hidden: int, seed: int) -> nn.Sequential:
    """One hidden layer of tanh."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, 1)).double()


def ours(model: nn.Sequential, X: Tensor, y: Tensor, deadline: float) -> float:
    """The shipped optimizer stepping on the shipped objective."""
    objective = Objective(model, MSE(), [], InMemory(X, y))
    optimizer = levenberg_marquardt(model.parameters())
    while optimizer.outcome is None and objective.value() > TARGET and time.perf_counter() < deadline:
        optimizer.step(objective.value, objective=objective)
    return objective.value()


def peer(solve_method: str):
    """torch-levenberg-marquardt, by one of its linear solvers."""

    def run(model: nn.Sequential, X: Tensor, y: Tensor, deadline: float) -> float:
        module = peer_training.LevenbergMarquardtModule(
            model=model, loss_fn=peer_loss.MSELoss(), learning_rate=1.0, attempts_per_step=10, solve_method=solve_method
        )
        value = float("inf")
        while value > TARGET and time.perf_counter() < deadline:
            _, _, stopped, *_ = module.training_step(X, y)
            with torch.no_grad():
                value = float((model(X) - y).square().mean())
            if stopped:
                break
        return value

    return run


class _ReachedError(Exception):
    """The target is met, and MINPACK knows no other way to be told."""


def scipy_lm(analytic: bool):
    """MINPACK's lmder (a Jacobian written out in NumPy) or lmdif (finite differences)."""

    def run(model: nn.Sequential, X: Tensor, y: Tensor, deadline: float) -> float:
        hidden, inputs = model[0].weight.shape
        Xn, yn, n, cut = X.numpy(), y.numpy()[:, 0], len(X), hidden * inputs
        start = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
        best = [float("inf")]

        def residuals(w: np.ndarray) -> np.ndarray:
            H = np.tanh(Xn @ w[:cut].reshape(hidden, inputs).T + w[cut : cut + hidden])
            r = H @ w[cut + hidden : -1] + w[-1] - yn
            best[0] = min(best[0], float(r @ r) / n)
            if best[0] <= TARGET or time.perf_counter() > deadline:
                raise _ReachedError
            return r

        def jacobian(w: np.ndarray) -> np.ndarray:
            H = np.tanh(Xn @ w[:cut].reshape(hidden, inputs).T + w[cut : cut + hidden])
            D = (1 - H * H) * w[cut + hidden : -1]
            return np.concatenate([(D[:, :, None] * Xn[:, None, :]).reshape(n, -1), D, H, np.ones((n, 1))], axis=1)

        with suppress(_ReachedError):
            least_squares(residuals, start, jac=jacobian if analytic else "2-point", method="lm",
                          max_nfev=10**6, xtol=1e-15, ftol=1e-15, gtol=1e-15)  # fmt: skip
        return best[0]

    return run


CONTESTANTS = {
    "torchplug levenberg_marquardt": ours,
    "torch-levenberg-marquardt (qr)": peer("qr"),
    "torch-levenberg-marquardt (cholesky)": peer("cholesky"),
    "scipy least_squares lm, finite differences": scipy_lm(analytic=False),
    "scipy least_squares lm, Jacobian by hand": scipy_lm(analytic=True),
}


def measure(inputs: int, hidden: int, rows: int, seeds: int) -> list[list[object]]:
    """A row per contestant: time to the target over the seeds that each of them solved."""
    seconds: dict[str, dict[int, float]] = {name: {} for name in CONTESTANTS}
    for seed in range(-1, seeds):  # the first warms up
        X, y = problem(inputs, rows, max(seed, 0))
        for name, run in CONTESTANTS.items():
            model = network(inputs, hidden, max(seed, 0))
            start = time.perf_counter()
            reached = run(model, X, y, start + (1.0 if seed < 0 else LIMIT_SECONDS))
            if reached <= TARGET and seed >= 0:
                seconds[name][seed] = time.perf_counter() - start
    result = []
    reference = seconds["torchplug levenberg_marquardt"]
    for name, times in seconds.items():
        common = sorted(times.keys() & reference.keys())
        if not common:
            result.append([name, f"0 of {seeds}", "–", "–"])
            continue
        ratio = statistics.median(times[seed] / reference[seed] for seed in common)
        result.append([name, f"{len(times)} of {seeds}", spread(list(times.values())), f"{ratio:.1f}"])
    return result


def main() -> None:
    """Print a table per problem."""
    torch.set_num_threads(1)  # of such sizes threads only wait for each other, and MINPACK has one
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one problem, two seeds")
    quick = parser.parse_args().quick
    print(machine("scipy", "torch-levenberg-marquardt"))
    for inputs, hidden, rows in PROBLEMS[:1] if quick else PROBLEMS:
        print(f"\nNetwork {inputs}-{hidden}-1, {rows} rows, float64\n")
        header = ["solver", f"seeds at MSE {TARGET:g}", "ms, median (range)", "times ours, median over common seeds"]
        print(table(header, measure(inputs, hidden, rows, 2 if quick else 5)), flush=True)


if __name__ == "__main__":
    main()
