"""The libraries, and how each lists what it offers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torchplug import Family
from torchplug_zoo.kinds import KINDS
from torchplug_zoo.sources import exported, listed

Targets = dict[str, tuple[str, str]]
"""Name → (package that exports it, module that defines it), by the name in the library."""


@dataclass(frozen=True)
class Library:
    """Components of one family in one library.

    Args:
        prefix: what the components' names begin with.
        distribution: the name under which pip knows it.
        family: the family.
        targets: reads what it offers from its sources, in the folder of its top-level package.
        named: makes a component's name of the library's.
    """

    prefix: str
    distribution: str
    family: Family
    targets: Callable[[Path], Targets]
    named: Callable[[str], str] = str.lower

    @property
    def key(self) -> str:
        """Its name in the data file."""
        return f"{self.prefix} {self.family.plural}"

    @property
    def package(self) -> str:
        """Its top-level package."""
        return self.distribution

    def name(self, original: str) -> str:
        """Return the component's name for a name in the library."""
        return f"{self.prefix}_{self.named(original)}"


def in_words(name: str) -> str:
    """Return a class's name in words: `ReduceLROnPlateau` as `reduce_lr_on_plateau`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _without(name: str, *parts: str) -> str:
    for part in parts:
        name = name.replace(part, "")
    return name


def _torch_optimizers(folder: Path) -> Targets:
    found = exported("torch.optim", folder)
    return {name: ("torch.optim", found[name]) for name in found if name[0].isupper() and name != "Optimizer"}


def _torch_schedulers(folder: Path) -> Targets:
    module = "torch.optim.lr_scheduler"
    return {name: (module, module) for name in listed(module, folder, "__all__") if name != "LRScheduler"}


def _torch_losses(folder: Path) -> Targets:
    module = "torch.nn.modules.loss"
    return {name: ("torchplug_zoo.losses", module) for name in listed(module, folder, "__all__") if name in KINDS}


def _pytorch_optimizers(folder: Path) -> Targets:
    return _of_pytorch_optimizer(folder, "pytorch_optimizer.optimizer", "OPTIMIZER_LIST")


def _pytorch_schedulers(folder: Path) -> Targets:
    return _of_pytorch_optimizer(folder, "pytorch_optimizer.lr_scheduler", "LR_SCHEDULER_LIST")


def _of_pytorch_optimizer(folder: Path, module: str, variable: str) -> Targets:
    """What its own factory offers, without what it has of torch."""
    found = exported(module, folder)
    return {name: ("pytorch_optimizer", found[name]) for name in listed(module, folder, variable) if name in found}


def _schedulefree(folder: Path) -> Targets:
    found = exported("schedulefree", folder)
    return {name: ("schedulefree", found[name]) for name in found if "Wrapper" not in name}


def _timm(folder: Path) -> Targets:
    found = exported("timm.optim", folder)
    public = {name: module for name, module in found.items() if not module.startswith("timm.optim._")}
    return {name: ("timm.optim", module) for name, module in public.items() if name != "Lookahead"}


LIBRARIES = (
    Library("torch", "torch", Family.OPTIMIZER, _torch_optimizers),
    Library("torch", "torch", Family.SCHEDULER, _torch_schedulers, in_words),
    Library("torch", "torch", Family.LOSS, _torch_losses, in_words),
    Library("po", "pytorch_optimizer", Family.OPTIMIZER, _pytorch_optimizers),
    Library(
        "po",
        "pytorch_optimizer",
        Family.SCHEDULER,
        _pytorch_schedulers,
        lambda name: in_words(_without(name, "Scheduler", "get_", "_schedule")),
    ),
    Library(
        "schedulefree",
        "schedulefree",
        Family.OPTIMIZER,
        _schedulefree,
        lambda name: _without(name, "ScheduleFree").lower(),
    ),
    Library("timm", "timm", Family.OPTIMIZER, _timm),
)
