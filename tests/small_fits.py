"""Small problems, and a quiet trainer for them, that several test files share."""

import lightning
import numpy as np
import polars

from torchplug import TabularData


def trainer(tmp_path, **settings):
    """A trainer that leaves nothing behind outside of tmp_path and prints nothing."""
    defaults = {
        "accelerator": "cpu",
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,
        "default_root_dir": tmp_path,
    }
    return lightning.Trainer(**{**defaults, **settings})


def frame(n=60, seed=0):
    """Three features on different scales, a numeric target y and its two classes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) * [1, 10, 0.1] + [0, 5, 100]
    y = X @ [1.0, -0.2, 3.0] + 7 + 0.1 * rng.normal(size=n)
    kind = np.where(y > np.median(y), "high", "low")
    return polars.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": y, "kind": kind})


def regression(**settings):
    """The numeric target, in batches of 12."""
    return TabularData(frame().drop("kind"), target="y", **{"batch_size": 12, **settings})


def classification(**settings):
    """The two classes, in batches of 12."""
    return TabularData(frame().drop("y"), target="kind", **{"batch_size": 12, **settings})
