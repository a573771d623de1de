"""One fit, in a process of one thread: what it reaches on the tested rows, and its CPU seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, log_loss, root_mean_squared_error

OURS = "ours"
LEAST = 1e-7
"""Probabilities are taken as at least this much, about the resolution of single precision below 1."""

_ENVIRONMENT = {"WANDB_MODE": "disabled", "PYTHONWARNINGS": "ignore"}
_ENVIRONMENT |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def fit(
    contestant: str,
    train: pd.DataFrame,
    test: pd.DataFrame,
    classes: bool,
    python: str,
    flags: Sequence[str],
    limit: float | None,
) -> dict[str, float]:
    """Metrics on the tested rows (rmse, or log_loss and accuracy), and seconds.

    Args:
        contestant: `ours`, or one of `peers.PEERS`.
        train: the rows to fit, with the column y.
        test: the tested rows.
        classes: whether y is a class.
        python: the peers' interpreter.
        flags: the recipe's.
        limit: seconds by the clock after which the fit is stopped, with {"stopped": limit} as the result; None: never.

    Raises:
        RuntimeError: if the fit fails, with what it printed last.
    """
    here = Path(__file__).parent
    ours = [sys.executable, str(here / "ours.py"), *flags]
    theirs = [python, str(here / "peers.py"), contestant, "classes" if classes else "numbers"]
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        train.to_csv(folder / "train.csv", index=False)
        test.to_csv(folder / "test.csv", index=False)
        command = ours if contestant == OURS else theirs
        try:
            done = subprocess.run(
                command, cwd=folder, env=os.environ | _ENVIRONMENT, capture_output=True, text=True, timeout=limit
            )
        except subprocess.TimeoutExpired:
            assert limit is not None
            return {"stopped": limit}
        if done.returncode:
            raise RuntimeError(f"{contestant} failed: {(done.stdout + done.stderr)[-2000:]}")
        predicted = pd.read_csv(folder / "predicted.csv")
    seconds = float(done.stdout.rpartition("SECONDS ")[2])
    measured = of_classes if classes else of_numbers
    return {**measured(test["y"], predicted), "seconds": seconds}


def of_numbers(true: pd.Series, predicted: pd.DataFrame) -> dict[str, float]:
    """The root mean squared error."""
    return {"rmse": float(root_mean_squared_error(true, predicted["y"]))}


def of_classes(true: pd.Series, predicted: pd.DataFrame) -> dict[str, float]:
    """Log loss, in nats, and the share of rows whose most probable class is true."""
    prefix = "probability_"
    columns = [name for name in predicted.columns if name.startswith(prefix)]
    labels = np.array([name.removeprefix(prefix) for name in columns])
    order = np.argsort(labels)
    probabilities = predicted[columns].to_numpy()[:, order].clip(LEAST, 1)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    true, labels = true.to_numpy(str), labels[order]
    return {
        "log_loss": float(log_loss(true, probabilities, labels=labels)),
        "accuracy": float(accuracy_score(true, labels[probabilities.argmax(axis=1)])),
    }
