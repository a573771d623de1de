"""One optimizer step by minibatches: its gradient, its guard and its update."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from torchplug.batch import Batch, Rows
from torchplug.engine import choose
from torchplug.execution.averaging import ParameterAveraging
from torchplug.gradient_guard import GradientGuard
from torchplug.objective import StepObjective

if TYPE_CHECKING:
    from torchplug.execution.minibatch_fit import MinibatchFit


class Stepper:
    """Makes optimizer steps, or Lightning's part of them, on the parameters that require gradients.

    Belongs to a fit; another takes its place where layers are frozen or unfrozen.

    Args:
        fit: what outlives it.
        objective: F on a minibatch.

    Attributes:
        engine: computes gradients.
        averaging: averages the ranks' parameters now and then; None where gradients are averaged at every step.
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
        self._log.watch(objective, [storage.values] if storage is not None and is_all else parameters)
        self.engine = choose(options.engine, objective, fit.means, storage, trainer.precision_plugin)
        # fp16's GradScaler skips the steps whose gradient overflows: that is how it works.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._guard = None if scaled else GradientGuard(self._trained, storage)
        self.averaging: ParameterAveraging | None = None
        if options.sync_every is not None and self._ranks.world > 1:
            values = [p.detach() for _, p in self._trained] if storage is None else [storage.values]
            self.averaging = ParameterAveraging(trainer, options.sync_every, values, self._ranks)
        self._update = layout.update
        self._switch = layout.update.switch
        self._update.restore()
        alone = self._guard is not None and self._ranks.world == 1
        self._whole = self.engine.whole_steps(layout.optimizer) if alone else None
        if self._whole is not None:
            self._update.replace(self._whole.update)

    def trains(self, parameters: list[tuple[str, nn.Parameter]]) -> bool:
        """Whether these are the parameters that it trains."""
        return [id(p) for _, p in parameters] == [id(p) for _, p in self._trained]

    # ------------------------------------------------------------------ whole steps

    def step(
        self, batch: Batch, uniform: bool, update: Callable[[], object], clip: Callable[[], object] | None
    ) -> None:
        """Make an optimizer step as Lightning's are, called without a graph.

        Args:
            batch: of the step.
            uniform: whether every weight is 1.
            update: the optimizer's part of it.
            clip: clips the gradient over all ranks.
        """
        self.begin()
        if self._switch is not None:
            self._switch.train()
        world = self._ranks.world
        self.engine.gradient(batch, world, uniform)
        if world > 1 and self.averaging is None:
            self._ranks.average(self._gradients())
        if clip is not None:
            self._inspect()  # before it hides what the gradient was
        if self._log.due:
            self._log.measure(self._gradients())
        if clip is not None:
            clip()
        update()
        self.end(inspected=clip is not None)

    def can_fuse(self) -> bool:
        """Whether several steps can be made in one graph."""
        sound = self._guard is not None and self._guard.is_known_sound
        return self._whole is not None and sound and not self._update.is_hooked()

    def try_fused(self, rows: Rows, count: int) -> Callable[[], bool] | None:
        """What makes the steps on these rows and says whether a row is due, or None: make them one by one."""
        whole, guard, log = self._whole, self._guard, self._log
        take = None if whole is None else whole.made(rows, count)
        if take is None or guard is None:
            return None

        def taken() -> bool:
            take()
            guard.clear(log.step + 1, count)
            if log.begin(log.step + count):
                log.measure(self._gradients())
            return log.due

        return taken

    # ------------------------------------------------------------------ the parts of a step of Lightning's

    def begin(self) -> None:
        """Remember where the parameters are, ahead of the gradient."""
        if self._switch is not None:
            self._switch.eval()
        if self._guard is not None:
            self._guard.before_update()

    def loss(self, batch: Batch, world: int, window: int) -> Tensor:
        """What this rank backpropagates: its share, scaled for Lightning and DDP."""
        if self._switch is not None:
            self._switch.train()
        self.engine.renew()
        return self.engine.with_precomputed_grad(batch, world, window)

    def before_update(self, step: int) -> None:
        """Guard the reduced gradient of the step with this number, and measure it where a row is due."""
        self._log.begin(step)
        self._inspect()
        if self._log.due:
            self._log.measure(self._gradients())

    def end(self, inspected: bool) -> None:
        """Outside of a step, parameters stand where they are to be evaluated, and are finite.

        Args:
            inspected: whether the guard has seen the step's gradient.
        """
        if self._switch is not None:
            self._switch.eval()
        if self._guard is not None:
            self._guard.after_update(None if inspected else self._log.step)
        if self.averaging is not None:
            self.averaging.after_step(self._log.step)

    def optimizer_eval(self) -> None:
        """Put the parameters where they are to be evaluated, also in the middle of a window."""
        if self._switch is not None:
            self._switch.eval()

    def raise_if_nonfinite(self, epoch: int) -> None:
        """Raise what the device has recorded.

        Raises:
            NonFiniteGradientError: if a gradient was not finite.
        """
        if self._guard is None:
            return
        if self.averaging is None:
            self._guard.raise_if_tripped(epoch)
        else:
            self.averaging.agree(self._guard.failure(epoch))

    def _inspect(self) -> None:
        """Let no gradient pass that is not finite."""
        if self._guard is not None:
            self._guard.inspect(self._log.step)

    def _gradients(self) -> list[Tensor]:
        if self._storage is not None:
            return [self._storage.gradient]
        return [p.grad for _, p in self._trained if p.grad is not None]
