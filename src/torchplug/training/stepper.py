"""Optimizer steps on minibatches: gradient, guard and update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, nn

from torchplug.batch import Batch, Rows
from torchplug.engine import choose
from torchplug.gradient_guard import GradientGuard
from torchplug.objective import StepObjective
from torchplug.training.averaging import ParameterAveraging
from torchplug.training.graph_choice import graphs_pay
from torchplug.training.step_log import by_layer

if TYPE_CHECKING:
    from torchplug.training.minibatch_fit import MinibatchFit


class Stepper:
    """Makes optimizer steps, or our part of Lightning's, on the parameters that require gradients.

    A fit builds another when layers are frozen or unfrozen.

    Args:
        fit: the state of the fit.
        objective: F on a minibatch.

    Attributes:
        engine: computes gradients.
        averaging: parameter averaging; None where gradients are averaged at every step.
    """

    def __init__(self, fit: MinibatchFit, objective: StepObjective) -> None:
        trainer, layout, options, self._ranks = fit.trainer, fit.layout, fit.options, fit.ranks
        self._trained = fit.trainable()
        if layout.storage is not None and not layout.storage.holds([p for _, p in self._trained]):
            layout.release()
        self._storage = storage = layout.storage
        parameters: list[Tensor] = list(trainer.lightning_module.parameters())
        is_all = storage is not None and len(parameters) == len(storage.parameters)
        self._log = fit.log
        layers = by_layer(self._trained) if options.gradient_norms else {}
        self._log.watch(objective, [storage.values] if storage is not None and is_all else parameters, layers)
        pays = partial(graphs_pay, trainer, objective, layout, fit.rows)
        self.engine = choose(options.engine, objective, fit.means, storage, trainer.precision_plugin, pays)
        # fp16: GradScaler skips steps with overflowing gradients by design.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._guard = None if scaled else GradientGuard(self._trained, storage)
        self.averaging: ParameterAveraging | None = None
        if options.sync_every is not None and self._ranks.world > 1:
            values = [p.detach() for _, p in self._trained] if storage is None else [storage.values]
            self.averaging = ParameterAveraging(trainer, options.sync_every, values, self._ranks)
        self._update = layout.update
        self._switch = layout.update.switch
        self._update.restore()
        alone = self._guard is not None and self._ranks.world == 1 and layout.update.declared
        self._fused = self.engine.fused_steps(layout.optimizer) if alone else None
        if self._fused is not None:
            self._update.replace(self._fused.update)

    def trains(self, parameters: list[tuple[str, nn.Parameter]]) -> bool:
        """Whether these are the parameters that this stepper trains."""
        return [id(p) for _, p in parameters] == [id(p) for _, p in self._trained]

    # ------------------------------------------------------------------ steps outside of Lightning

    def step(
        self, batch: Batch, uniform: bool, update: Callable[[], object], clip: Callable[[], object] | None
    ) -> None:
        """Make an optimizer step with the effects of one of Lightning's; called under `no_grad`.

        Args:
            batch: the batch.
            uniform: whether every weight is 1.
            update: the optimizer's update.
            clip: clips the reduced gradient.
        """
        self.begin()
        world = self._ranks.world
        self.engine.gradient(batch, world, uniform)
        if world > 1 and self.averaging is None:
            self._ranks.average(self._gradients())
        if clip is not None:
            self._inspect()  # before clipping hides a non-finite gradient
        if self._log.due:
            self._log.measure(self._gradients())
        if clip is not None:
            clip()
        update()
        self.end(inspected=clip is not None)

    def can_fuse(self) -> bool:
        """Whether several steps can be fused into one graph."""
        sound = self._guard is not None and self._guard.is_known_sound
        return self._fused is not None and sound and not self._update.is_hooked()

    def try_fused(self, rows: Rows, count: int) -> Callable[[], bool] | None:
        """Compute several steps on these rows; return a function that applies them and returns whether a row is due.

        None where the steps must be made one by one.
        """
        fused, guard, log = self._fused, self._guard, self._log
        apply = None if fused is None else fused.prepare(rows, count)
        if apply is None or guard is None:
            return None

        def applied() -> bool:
            apply()
            guard.clear(log.step + 1, count)
            if log.begin(log.step + count):
                log.measure(self._gradients())
            return log.due

        return applied

    # ------------------------------------------------------------------ parts of a step of Lightning's

    def begin(self) -> None:
        """Record the parameters before the gradient is computed, and move them to where it is computed."""
        self.optimizer_eval()
        if self._guard is not None:
            self._guard.before_update()
        if self._switch is not None:  # before `step`, which may refuse to begin in the other mode
            self._switch.train()

    def loss(self, batch: Batch, world: int, window: int) -> Tensor:
        """Return this rank's loss, scaled for Lightning's accumulation and DDP's averaging."""
        if self._switch is not None:
            self._switch.train()
        self.engine.renew()
        return self.engine.with_precomputed_grad(batch, world, window)

    def before_update(self, step: int, again: bool = False) -> None:
        """Check the reduced gradient of a step for non-finite values, and record its norm if a row is due.

        Args:
            step: the step's number.
            again: whether this is a further evaluation within the step, which is not recorded.
        """
        self._log.begin(step)
        self._inspect(again)
        if self._log.due and not again:
            self._log.measure(self._gradients())

    def end(self, inspected: bool) -> None:
        """End a step: parameters move to the evaluation point, and are restored if the gradient was not finite.

        Args:
            inspected: whether the guard has inspected the step's gradient.
        """
        if self._switch is not None:
            self._switch.eval()
        if self._guard is not None:
            self._guard.after_update(None if inspected else self._log.step)
        if self.averaging is not None:
            self.averaging.after_step(self._log.step)

    def optimizer_eval(self) -> None:
        """Move the parameters to the optimizer's evaluation point, where they are before its first step."""
        if self._switch is not None and self._switch.state:
            self._switch.eval()

    def raise_if_nonfinite(self, epoch: int) -> None:
        """Raise if the guard has recorded a non-finite gradient; synchronizes with the device.

        Raises:
            NonFiniteGradientError: if a gradient was not finite.
        """
        if self._guard is None:
            return
        if self.averaging is None:
            self._guard.raise_if_tripped(epoch)
        else:
            self.averaging.raise_on_all_ranks(self._guard.failure(epoch))

    def _inspect(self, again: bool = False) -> None:
        """Let the guard inspect the gradient."""
        if self._guard is not None:
            self._guard.inspect(self._log.step, again)

    def _gradients(self) -> list[Tensor]:
        if self._storage is not None:
            return [self._storage.gradient]
        return [p.grad for _, p in self._trained if p.grad is not None]
