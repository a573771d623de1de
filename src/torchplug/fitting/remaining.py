"""What a fit that is resumed still has to do: train, finish what a killed run left undone, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torchplug.errors import CheckpointError, ConfigurationError
from torchplug.fitting.origin import Origin
from torchplug.registry.component import Outcome


def refuse_nothing_left(origin: Origin, trainer: Mapping[str, Any], outcome: Outcome | None) -> None:
    """Refuse to resume where nothing is left to do.

    A run whose training had ended when its process was killed has its end left to do: coefficients and outcome are
    written, and nothing is trained.

    Args:
        origin: the checkpoint, and the run that it belongs to.
        trainer: the trainer's settings.
        outcome: the optimizer's, where it has ended the training.

    Raises:
        ConfigurationError: if a limit is below what is done, or at it and the run is finished.
        CheckpointError: if the checkpoint holds no training.
    """
    done = _Done.of(origin)
    finished = origin.run is None or origin.run.finished_at == done.steps
    if outcome is not None and finished:
        raise ConfigurationError(
            f"{origin.file}: training has ended ({outcome.name}: {outcome.reason}), and nothing is left to do"
        )
    for name, limit, reached, shown, more in done.limits(trainer):
        if limit < reached or (limit == reached and finished):
            raise ConfigurationError(
                f"{origin.file} has {shown} behind it: ask for more in all, such as --trainer.{name} {more}"
            )


@dataclass(frozen=True)
class _Done:
    """What a checkpoint has behind it.

    Args:
        epochs: whole epochs.
        steps: optimizer steps.
        seconds: of training; None where nothing measured them.
        own_seconds: the time limit of the run itself, if it had one.
    """

    epochs: int
    steps: int
    seconds: float | None
    own_seconds: float | None

    @classmethod
    def of(cls, origin: Origin) -> _Done:
        fit = origin.content["torchplug"].get("fit")
        if fit is None:
            raise CheckpointError(f"{origin.file} holds no training that could be resumed: fit without --ckpt_path")
        epoch, _, stage = fit["position"]
        timers = [state for name, state in origin.content["callbacks"].items() if name.startswith("Timer")]
        seconds = timers[0]["time_elapsed"]["train"] if timers else None
        own = _seconds(origin.config.get("trainer", {}).get("max_time"))
        return cls(epoch + (stage == "ended"), fit["steps"], seconds, own)

    def limits(self, trainer: Mapping[str, Any]) -> list[tuple[str, float, float, str, str]]:
        """Return each limit that is set: its name and value, what is done of it, that in words, and a larger value."""
        found: list[tuple[str, float, float, str, str]] = []
        for name, reached in (("max_epochs", self.epochs), ("max_steps", self.steps)):
            limit = trainer.get(name)
            if limit is not None and limit >= 0:
                noun = name.removeprefix("max_")
                found.append((name, limit, reached, f"{reached} {noun}", str(2 * reached)))
        longest = _seconds(trainer.get("max_time"))
        if longest is not None and self.seconds is not None:
            # a clock is never stopped exactly: over the run's own limit, that limit is reached
            spent = longest if longest == self.own_seconds and self.seconds > longest else self.seconds
            found.append(("max_time", longest, spent, f"{_clock(self.seconds)} of training", _clock(2 * self.seconds)))
        return found


def _seconds(value: Any) -> float | None:
    """A time limit in seconds: `DD:HH:MM:SS`, a mapping of timedelta's parameters, or a timedelta."""
    if isinstance(value, str):
        days, hours, minutes, seconds = (int(part) for part in value.split(":"))
        value = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if isinstance(value, Mapping):
        value = timedelta(**value)
    return value.total_seconds() if isinstance(value, timedelta) else None


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds + 0.5), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours // 24:02}:{hours % 24:02}:{minute:02}:{second:02}"
