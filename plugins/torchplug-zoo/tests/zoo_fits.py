"""Small fits by name, and plain torch loops that make the same steps with the library's own class."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import polars
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from torchplug import ComponentModule, TabularData, use

EPOCHS, BATCH, ROWS = 2, 3, 60
MODELS = {
    "linear": use("linear"),
    "matrix": use("linear", bias=False),
    "mlp": use("mlp", hidden=[5], activation="tanh"),
}


@functools.cache
def frame() -> polars.DataFrame:
    """Three features and a target that is nearly linear in them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 3))
    y = X @ [1.0, -0.5, 0.3] + 0.7 + 0.1 * rng.normal(size=ROWS)
    return polars.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": y})


def table() -> TabularData:
    """The table as it is: 36 training rows in their order, in 12 batches."""
    return TabularData(frame(), "y", batch_size=BATCH, shuffle=False, scale="none", standardize_target=False)


class Seed(lightning.Callback):
    """Seeds the random numbers that an optimizer draws in its steps."""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """After everything is built."""
        torch.manual_seed(7)


class Fit:
    """A fit of two epochs.

    Args:
        folder: for checkpoints, one per epoch.
        optimizer: name or spec.
        model: `linear` or `mlp`.
        resume: the checkpoint to resume from.
        options: of the module.
    """

    def __init__(self, folder: Path, optimizer: Any, model: str, resume: Path | None = None, **options: Any) -> None:
        torch.manual_seed(3)
        self.folder = folder
        self.module = ComponentModule(MODELS[model], options.pop("loss", "mse"), optimizer, **options)
        self.data = table()
        saved = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, every_n_epochs=1)
        self.trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=EPOCHS,
            logger=False,
            callbacks=[saved] if resume else [Seed(), saved],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        self.data.prepare_data()
        self.data.trainer = self.trainer
        self.module.trainer = self.trainer
        self.start: nn.Module | None = None
        self._resume = resume

    def __call__(self) -> Fit:
        """Train."""
        start = _Start()
        self.trainer.callbacks.append(start)  # type: ignore[attr-defined]
        self.trainer.fit(
            self.module, self.data, ckpt_path=self._resume, weights_only=None if self._resume is None else True
        )
        self.start = start.network
        return self

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The trained parameters."""
        return {name: p.detach().clone() for name, p in self.module.network.named_parameters()}

    def checkpoint(self, epoch: int) -> Path:
        """The checkpoint of an epoch, counted from 0."""
        return self.folder / f"epoch={epoch}.ckpt"

    def state(self) -> Any:
        """The optimizer's state at the end, as saved."""
        return torch.load(self.checkpoint(EPOCHS - 1), weights_only=True)["optimizer_states"]


class _Start(lightning.Callback):
    """Keeps the network as it is before the first step."""

    network: nn.Module

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Copy it."""
        self.network = copy.deepcopy(module.network)


def plain_loop(
    network: nn.Module,
    rows: polars.DataFrame,
    build: Callable[[nn.Module, list[tuple[str, nn.Parameter]]], torch.optim.Optimizer],
    graph: bool = False,
) -> dict[str, Tensor]:
    """Train a copy of the network as a torch user would, and return its parameters."""
    network = copy.deepcopy(network)
    X = torch.tensor(rows.select("a", "b", "c").to_numpy(), dtype=torch.float32)
    y = torch.tensor(rows.select("y").to_numpy(), dtype=torch.float32)
    optimizer: Any = build(network, list(network.named_parameters()))
    modes = hasattr(optimizer, "train") and hasattr(optimizer, "eval")
    torch.manual_seed(7)
    for _ in range(EPOCHS):
        for first in range(0, len(X), BATCH):
            batch = slice(first, first + BATCH)

            def closure(batch: slice = batch) -> Tensor:
                optimizer.zero_grad()
                with torch.enable_grad():  # which some optimizers leave to their users
                    loss = (network(X[batch]) - y[batch]).square().sum() * (1 / len(y[batch]))
                    loss.backward(create_graph=graph)
                return loss

            if modes:
                optimizer.train()
            optimizer.step(closure)
    if modes:
        optimizer.eval()
    return {name: p.detach().clone() for name, p in network.named_parameters()}
