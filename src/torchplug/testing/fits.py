"""Small fits by Lightning's Trainer, and the checks that need one."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning
import numpy as np
import polars
import torch
from torch import Tensor

from torchplug.data.tabular import TabularData
from torchplug.errors import TorchplugError
from torchplug.module import ComponentModule
from torchplug.registry.component import Capability, Family
from torchplug.registry.foreign_code import one_line
from torchplug.testing.compared import require_close, require_equal
from torchplug.testing.ranks import both_ranks
from torchplug.testing.record import NotApplicable, NotRun, check, require
from torchplug.testing.subject import Subject

_ROWS, _BATCH = 40, 20
_LABELS = {"binary": 2, "margin": 2, "multiclass": 3}


def small_fit(
    *,
    model: Any = "linear",
    loss: Any = "mse",
    optimizer: Any = "adam",
    epochs: int = 2,
    ranks: int = 1,
    batch_size: int = _BATCH,
    **settings: Any,
) -> ComponentModule:
    """Train components on a small table whose target suits the loss, and return the module.

    Everything is in double precision, seeded, on the CPU, and leaves no file behind.

    Args:
        model: a name or spec.
        loss: a name or spec.
        optimizer: a name or spec.
        epochs: at least 1, of forty rows each.
        ranks: processes, of which this is one.
        batch_size: rows of a batch, of each rank.
        settings: other parameters of `ComponentModule`.

    Example:
        >>> small_fit(loss="l1", optimizer="sgd", regularizers=["l2"]).components[1].name
        'l1'
    """
    torch.manual_seed(0)
    module = ComponentModule(model, loss, optimizer, **settings)
    data = TabularData(_table(module.loss.kind), target="y", split=[0.8, 0.2, 0.0], batch_size=batch_size, seed=0)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=ranks,
            strategy="ddp" if ranks > 1 else "auto",
            precision="64-true",
            max_epochs=epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        trainer.fit(module, data)
    return module


def weights(module: ComponentModule) -> dict[str, Tensor]:
    """Return the weights of a trained module's network and loss, by name."""
    assert module.network is not None, "the fit has built it"
    both = {"network": module.network, "loss": module.loss}
    return {f"{name}.{key}": p.detach().clone() for name, part in both.items() for key, p in part.named_parameters()}


def choice_for(subject: Subject) -> dict[str, Any]:
    """Return the parameters of `small_fit` that train a component."""
    spec = subject.resolved().spec.plain()
    family = subject.family
    if family is Family.OPTIMIZER:
        return {"optimizer": spec, **_problem(subject.capabilities)}
    if family is Family.REGULARIZER:
        return {"regularizers": [spec]}
    if family is Family.METRIC:
        return {"metrics": [spec], "loss": _LOSS_OF[_metric_kind(subject)]}
    return {family.value: spec}


@check(*Family, costly=True)
def trains_in_a_fit(subject: Subject) -> None:
    """A small fit by Lightning's Trainer, with validation, ends with finite weights."""
    subject.make()
    try:
        module = small_fit(**choice_for(subject))
    except TorchplugError as error:
        raise AssertionError(f"a small fit with it is refused: {error}") from error
    except Exception as error:
        raise AssertionError(f"a small fit with it fails: {one_line(error)[:300]}") from error
    for name, weight in weights(module).items():
        require(bool(weight.isfinite().all()), f"a small fit with it ends with {name} that is not finite")


@check(Family.OPTIMIZER, capability=Capability.UPDATE, costly=True)
def several_steps_are_single_steps(subject: Subject) -> None:
    """Several steps per execution, by `update()`, give the weights of single steps, bit for bit."""
    choice = _tried(subject)
    found = [weights(small_fit(**choice, batch_size=4, steps_per_execution=steps)) for steps in (1, 4)]
    require_equal(
        found[1], found[0], "four steps per execution give other weights than single ones: `update` is not `step`"
    )


@check(Family.OPTIMIZER, unless=Capability.GRAPH, costly=True)
def two_ranks_are_one(subject: Subject) -> None:
    """Two processes that share each batch reach the weights of one process, and both the same."""
    choice = _tried(subject)
    single = weights(small_fit(**choice))
    first, second = both_ranks({**choice, "batch_size": _BATCH // 2})
    for name, weight in single.items():
        require(
            torch.equal(first[name], second[name]), f"two ranks reach other {name}: they must take the same decisions"
        )
        require_close(first[name], weight, f"{name} of two ranks and of one", relative=1e-6, absolute=1e-8)


def _tried(subject: Subject) -> dict[str, Any]:
    """What trains the optimizer.

    Raises:
        NotRun: if it does not train.
    """
    subject.make()
    choice = choice_for(subject)
    try:
        small_fit(**{**choice, "epochs": 1})
    except Exception as error:
        raise NotRun("a small fit with it fails, see the check trains_in_a_fit") from error
    return choice


def _problem(capabilities: frozenset[Capability]) -> dict[str, Any]:
    if Capability.OBJECTIVE not in capabilities:
        return {"model": {"name": "mlp", "parameters": {"hidden": [4], "activation": "tanh"}}, "loss": "mse"}
    return {"model": "linear", "loss": "l1" if Capability.PIECEWISE_LINEAR in capabilities else "mse", "epochs": 8}


_LOSS_OF = {"regression": "mse", "binary": "bce", "multiclass": "cross_entropy"}


def _metric_kind(subject: Subject) -> str:
    kinds = sorted(subject.entry.component.kinds & set(_LOSS_OF))  # type: ignore[attr-defined]
    if not kinds:
        raise NotApplicable("no built-in loss is of its kinds")
    return str(kinds[0])


def _table(kind: str) -> polars.DataFrame:
    generator = np.random.default_rng(3)
    features = generator.normal(size=(_ROWS, 3))
    drawn = features.sum(1) + 0.5 * generator.normal(size=_ROWS)
    target: Any = drawn
    if kind == "count":
        target = np.exp(0.3 * drawn).round()
    elif kind in _LABELS:
        ranks = drawn.argsort().argsort() * _LABELS[kind] // _ROWS
        target = np.array(["a", "b", "c"])[ranks]
    return polars.DataFrame({**{f"x{i}": features[:, i] for i in range(3)}, "y": target})


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's messages of devices and small loaders."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def job_result(job: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a fit on one of two ranks."""
    return weights(small_fit(**job, ranks=2))
