"""When a scheduler advances, and which metric it monitors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torchplug.errors import PluginError

if TYPE_CHECKING:
    from torchplug.registry.resolved import Resolved

_PLATEAU = "val/loss"
"""What torch's ReduceLROnPlateau monitors where nothing says otherwise."""


def attributed(component: Resolved, scheduler: Any) -> Any:
    """Return a scheduler with the attributes `interval` and, where it monitors a metric, `monitor`.

    Its own attributes come first, then those of the record. A target that is given `total_steps` counts steps.

    Raises:
        PluginError: if it is no LRScheduler of torch's, which alone can be stepped, saved and resumed.
    """
    bases = {base.__name__ for base in type(scheduler).__mro__ if base.__module__ == "torch.optim.lr_scheduler"}
    stateful = all(callable(getattr(scheduler, name, None)) for name in ("state_dict", "load_state_dict"))
    if not bases & {"LRScheduler", "ReduceLROnPlateau"} or not stateful:
        lack = (
            "no torch.optim.lr_scheduler.LRScheduler" if stateful else "no state_dict and load_state_dict to resume it"
        )
        raise PluginError(
            f"scheduler {component.qualified_name} gives a {type(scheduler).__name__}, "
            f"which {'is' if stateful else 'has'} {lack}"
        )
    record = component.entry.component
    if not hasattr(scheduler, "interval"):
        scheduler.interval = record.interval or ("step" if "total_steps" in component.asked else "epoch")
    monitor = record.monitor or (_PLATEAU if "ReduceLROnPlateau" in bases else None)
    if monitor is not None and not hasattr(scheduler, "monitor"):
        scheduler.monitor = monitor
    return scheduler
