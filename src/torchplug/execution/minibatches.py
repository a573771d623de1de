"""One optimizer step per minibatch, or per accumulation window of minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor, nn

from torchplug.batch import Batch
from torchplug.errors import ConfigurationError
from torchplug.execution.running_means import RunningMeans
from torchplug.gradient_guard import GradientGuard, tensors_norm
from torchplug.objective import StepObjective


class Minibatches:
    """One optimizer step per minibatch, or per accumulation window of minibatches.

    The sums behind `train/loss` stay on the device: a logged row costs one synchronization, a step
    none. A copy of it starts idle: it belongs to no trainer.
    """

    iteration: None = None
    """Minibatch training is not told in iterations of its optimizer."""
    outcome: None = None
    """It ends where the trainer says, not where its optimizer does."""
    statistics: None = None
    """Its coefficients come without standard errors."""

    def __init__(self) -> None:
        self._objective: StepObjective
        self._trainer: Trainer
        self._means: RunningMeans
        self._guard: GradientGuard | None = None
        self._switch: Any = None
        self._watched: list[tuple[str, nn.Parameter]] = []
        self._gradient_norm: Tensor | None = None
        self._step = 0
        self._row_at = 0
        self._stepped = False

    def __reduce__(self) -> tuple[type[Minibatches], tuple[()]]:
        return Minibatches, ()

    def refuse_settings(self, trainer: Trainer) -> None:
        """Every setting of the trainer goes with minibatches."""

    def start(self, trainer: Trainer, objective: StepObjective) -> None:
        """Take up a fit whose parameters and optimizer are in place.

        Raises:
            ConfigurationError: if batch normalization would see a batch of one row.
        """
        _refuse_single_rows(objective.network, trainer.train_dataloader)
        self._trainer = trainer
        optimizer = trainer.optimizers[0]
        self._switch = optimizer if hasattr(optimizer, "train") and hasattr(optimizer, "eval") else None
        self._watch(objective)
        self._means = RunningMeans(self._watched[0][1].device)
        self._step = self._row_at = trainer.global_step
        self._stepped = False

    def follow(self, objective: Callable[[], StepObjective]) -> None:
        """Take up the layers that a callback has frozen or unfrozen since."""
        if [id(p) for _, p in self._trainable()] != [id(p) for _, p in self._watched]:
            self._watch(objective())

    def _watch(self, objective: StepObjective) -> None:
        self._objective, self._watched = objective, self._trainable()
        # fp16's GradScaler skips the steps whose gradient overflows: that is how it works.
        scaled = getattr(self._trainer.precision_plugin, "scaler", None) is not None
        self._guard = None if scaled else GradientGuard(self._watched)

    def _trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self._trainer.lightning_module.named_parameters() if p.requires_grad]

    def training_step(self, batch: Batch) -> Tensor:
        """What this rank backpropagates: its share, scaled for Lightning and DDP."""
        if self._switch is not None:
            self._switch.train()
        trainer = self._trainer
        value, weighted = self._objective.share(batch, trainer.world_size, trainer.accumulate_grad_batches)
        self._means.add(weighted, len(batch.weight))
        return value

    def before_update(self) -> None:
        """The reduced, unscaled gradient is there, clipping and the update are to come: guard and measure it."""
        self._step = self._trainer.global_step + 1
        if self._guard is not None:
            self._guard.inspect(self._step)
        if self._row_is_due():
            self._gradient_norm = tensors_norm([p.grad for _, p in self._watched if p.grad is not None])

    def optimizer_step(self, step: Callable[[], Any]) -> None:
        """Run the update; outside of it, parameters stand where they are to be evaluated."""
        self.evaluate_here()
        if self._guard is not None:
            self._guard.before_update()
        step()
        self.evaluate_here()
        if self._guard is not None:
            self._guard.after_update()
        self._stepped = True

    def after_batch(self) -> dict[str, Tensor]:
        """At the logging interval look at the device, and give the row to log; else nothing."""
        if not self._stepped:
            # nobody outside sees the look-ahead point, in the middle of a window neither
            self.evaluate_here()
            return {}
        self._stepped = False
        if not self._row_is_due():
            return {}
        self.look()
        total, rows = self._means.row(self._trainer)
        # with reduction: sum an optimizer step adds up its losses
        divisor = rows if self._objective.reduction == "mean" else self._step - self._row_at
        row = {
            "train/loss": total / rows,
            "train/objective": total / divisor + self._objective.penalty().to(total),
            "train/parameter_norm": tensors_norm(list(self._trainer.lightning_module.parameters())),
        }
        if self._gradient_norm is not None:
            row["train/gradient_norm"] = self._gradient_norm
        self._row_at = self._step
        return row

    def after_epoch(self) -> dict[str, Tensor]:
        """Look at the device, and give the epoch's mean loss."""
        self.look()
        self.evaluate_here()
        total, rows = self._means.epoch(self._trainer)
        return {"train/epoch_loss": total / rows}

    def end(self) -> None:
        """Training by minibatches has no outcome of its own."""

    def _row_is_due(self) -> bool:
        every: int = self._trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and self._step % every == 0

    def look(self) -> None:
        """Raise what the device has recorded.

        Raises:
            NonFiniteGradientError: if a gradient was not finite.
        """
        if self._guard is not None:
            self._guard.raise_if_tripped(self._trainer.current_epoch)

    def evaluate_here(self) -> None:
        """Put the parameters where they are to be evaluated, also in the middle of a window."""
        if self._switch is not None:
            self._switch.eval()


def _refuse_single_rows(network: nn.Module, loader: Any) -> None:
    normalizes = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    smallest = getattr(loader, "smallest_batch", None)
    if normalizes and smallest is not None and smallest < 2:
        raise ConfigurationError(
            f"batch normalization needs at least 2 rows in every batch, and the smallest here has {smallest}: "
            "choose another batch_size, or batch_norm: false"
        )
