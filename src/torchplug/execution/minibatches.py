"""One optimizer step per minibatch, or per accumulation window of minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from torchplug.batch import Batch, Groups, Rows
from torchplug.engine import UNROUNDED, Engine, GradientEngine, WholeSteps, check_chain, choose
from torchplug.errors import ConfigurationError, NonFiniteGradientError
from torchplug.execution.averaging import ParameterAveraging, Ranks
from torchplug.execution.calls import StepsPerCall, steps_per_call, why_single_steps
from torchplug.execution.layout import Layout
from torchplug.execution.lightning_internals import write_epoch_row, write_row
from torchplug.execution.processor import Processor
from torchplug.execution.resumption import epoch_is_complete
from torchplug.execution.run_ahead import RunAhead
from torchplug.execution.running_means import RunningMeans
from torchplug.execution.step_log import StepLog, learning_rates
from torchplug.execution.update import Update
from torchplug.gradient_guard import GradientGuard
from torchplug.objective import StepObjective


class Minibatches:
    """One optimizer step per minibatch, or per accumulation window of minibatches.

    The sums behind `train/loss` stay on the device: a logged row costs one synchronization, a step
    none. A copy of it starts idle: it belongs to no trainer.

    Args:
        engine: how gradients are computed.
        steps_per_call: how many steps are made per call of Lightning's, at most.
        sync_every: after how many steps ranks average their parameters; None: gradients, at every step.
    """

    iteration: None = None
    """Minibatch training is not told in iterations of its optimizer."""
    outcome: None = None
    """It ends where the trainer says, not where its optimizer does."""
    statistics: None = None
    """Its coefficients come without standard errors."""

    def __init__(
        self, engine: Engine = "auto", steps_per_call: StepsPerCall = "auto", sync_every: int | None = None
    ) -> None:
        self._asked_engine = engine
        self._asked_steps = steps_per_call
        self._sync_every = sync_every
        self.engine: GradientEngine
        self._objective: StepObjective
        self._trainer: Trainer
        self._means: RunningMeans
        self._optimizer: Optimizer | None = None
        self._update: Update
        self._layout = Layout()
        self._guard: GradientGuard | None = None
        self._switch: Any = None
        self._watched: list[tuple[str, nn.Parameter]] = []
        self._log: StepLog
        self._stepped = False
        self._failure: NonFiniteGradientError | None = None
        self._whole: WholeSteps | None = None
        self._run_ahead: RunAhead | None = None
        self._ranks: Ranks
        self._processor: Processor
        self._averaging: ParameterAveraging | None = None

    def __reduce__(self) -> tuple[type[Minibatches], tuple[Any, ...]]:
        return Minibatches, (self._asked_engine, self._asked_steps, self._sync_every)

    # ------------------------------------------------------------------ before the first step

    def refuse_settings(self, trainer: Trainer) -> None:
        """Refuse what was asked for where the trainer's settings stand in the way.

        Raises:
            ConfigurationError: if an engine or several steps per call were asked for, and cannot be had.
        """
        if self._asked_engine == "chain" and trainer.precision not in UNROUNDED:
            raise ConfigurationError(f"engine chain: it computes in full precision, and not in {trainer.precision}")
        self._refuse_steps(trainer)

    def _refuse_steps(self, trainer: Trainer) -> None:
        asked = self._asked_steps
        obstacle = None if asked in ("auto", 1) else why_single_steps(trainer)
        if obstacle is not None:
            raise ConfigurationError(f"steps_per_call {asked}: {obstacle}; leave it at auto, or set it to 1")

    def refuse_engine(self, objective: StepObjective) -> None:
        """Refuse an engine that cannot be had for this network and loss, whatever the trainer.

        Raises:
            ConfigurationError: saying what stands in the way.
        """
        if self._asked_engine == "chain":
            check_chain(objective)

    def notes(self, trainer: Trainer, network: nn.Module, rows: int) -> list[str]:
        """What the user should know and did not ask; `rows` are those of a rank's batch."""
        notes = []
        obstacle = why_single_steps(trainer)
        if obstacle is None and steps_per_call(self._asked_steps, network, rows) == 1:
            obstacle = "a step of so large a network takes longer than what surrounds it"
        if obstacle is not None and self._asked_steps == "auto":
            notes.append(f"steps_per_call is 1: {obstacle}")
        if self._sync_every is not None and trainer.world_size == 1:
            notes.append("sync_every has no effect in a single process")
        return notes

    def boundary_steps(self, network: nn.Module, rows: int) -> int:
        """After how many steps ranks ask each other whether to stop: about a tenth of a second's, the same on all."""
        steps, every = steps_per_call("auto", network, rows), self._sync_every or 1
        return -(-steps // every) * every

    def is_boundary(self) -> bool:
        """Whether training may stop after the last step: ranks that step on their own have the same parameters."""
        return self._averaging is None or self._averaging.is_due(self._trainer.global_step)

    def arrange(
        self, trainer: Trainer, objective: StepObjective, groups: Sequence[Mapping[str, Any]], flat: bool
    ) -> list[dict[str, Any]]:
        """Lay parameters out where a step is cheapest, before an optimizer is built.

        Args:
            trainer: of the fit to come.
            objective: its network and loss.
            groups: of the optimizer, with (name, parameter) pairs.
            flat: whether the optimizer may see a group as one tensor.

        Returns:
            the groups to build it over.
        """
        return self._layout.arrange(trainer, objective.network, groups, flat)

    def take(self, optimizer: Optimizer) -> None:
        """Take up the optimizer that was built over what `arrange` gave, before its state is restored."""
        self._optimizer, self._update = optimizer, Update(optimizer)
        self._layout.take(optimizer)

    def start(self, trainer: Trainer, objective: StepObjective) -> None:
        """Take up a fit whose parameters and optimizer are in place.

        Raises:
            ConfigurationError: if a batch of one row would be normalized, or what was asked for cannot be had.
        """
        self._refuse_steps(trainer)  # again: the optimizer, which there is now, may stand in the way
        _refuse_single_rows(objective.network, trainer.train_dataloader)
        self._trainer = trainer
        optimizer = trainer.optimizers[0]
        if optimizer is not self._optimizer:  # a module may build another
            self._layout.release()
            self.take(optimizer)
        self._switch = optimizer if hasattr(optimizer, "train") and hasattr(optimizer, "eval") else None
        self._watched = self._trainable()
        device = self._watched[0][1].device
        self._ranks = Ranks(trainer.world_size, device)
        self._means = RunningMeans(device, objective.loss, self._ranks)
        self._log = StepLog(trainer, self._means)
        self._watch(objective)
        self._stepped = False
        self._failure = None
        self._run_ahead = None
        rows = getattr(trainer.train_dataloader, "batch_size", None) or 1
        self._processor = Processor(objective.network, rows, device)
        most = steps_per_call(self._asked_steps, objective.network, rows)
        if most > 1 and why_single_steps(trainer) is None:
            boundary = self.boundary_steps(objective.network, rows)
            self._run_ahead = RunAhead(trainer, self, most, boundary)

    def follow(self, objective: Callable[[], StepObjective]) -> None:
        """An epoch begins: take up the layers that a callback has frozen or unfrozen, and write a learning rate."""
        if any(config.interval == "epoch" for config in self._trainer.lr_scheduler_configs):
            write_row(self._trainer, learning_rates(self._trainer.optimizers[0]))
        if [id(p) for _, p in self._trainable()] != [id(p) for _, p in self._watched]:
            self._layout.release()
            self._watch(objective())

    def _watch(self, objective: StepObjective) -> None:
        self._objective, self._watched = objective, self._trainable()
        if self._layout.storage is not None and not self._layout.storage.holds([p for _, p in self._watched]):
            self._layout.release()
        storage = self._layout.storage
        parameters: list[Tensor] = list(self._trainer.lightning_module.parameters())
        is_all = storage is not None and len(parameters) == len(storage.parameters)
        self._log.watch(objective, [storage.values] if storage is not None and is_all else parameters)
        self.engine = choose(self._asked_engine, objective, self._means, storage, self._trainer.precision_plugin)
        # fp16's GradScaler skips the steps whose gradient overflows: that is how it works.
        scaled = getattr(self._trainer.precision_plugin, "scaler", None) is not None
        self._guard = None if scaled else GradientGuard(self._watched, storage)
        self._averaging = None
        if self._sync_every is not None and self._ranks.world > 1:
            values = [p.detach() for _, p in self._watched] if storage is None else [storage.values]
            self._averaging = ParameterAveraging(self._trainer, self._sync_every, values, self._ranks)
        self._update.restore()
        self._whole = None
        if self._guard is not None and self._ranks.world == 1:
            self._whole = self.engine.whole_steps(self._update.optimizer)
        if self._whole is not None:
            self._update.replace(self._whole.update)

    def _trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self._trainer.lightning_module.named_parameters() if p.requires_grad]

    # ------------------------------------------------------------------ a step of Lightning's

    def training_step(self, batch: Batch) -> Tensor:
        """What this rank backpropagates: its share, scaled for Lightning and DDP."""
        if self._switch is not None:
            self._switch.train()
        trainer = self._trainer
        self.engine.renew()
        return self.engine.carried(batch, trainer.world_size, trainer.accumulate_grad_batches)

    def zero_gradient(self, zero: Callable[[], None]) -> None:
        """Forget the last step's gradient: `zero` does it where parameters keep their own."""
        self._layout.zero_gradient(zero)

    def before_update(self) -> None:
        """The reduced, unscaled gradient is there, clipping and the update are to come: guard and measure it."""
        self._log.begin(self._trainer.global_step + 1)
        self.inspect()
        if self._log.due:
            self._log.measure(self._gradients())

    def optimizer_step(self, step: Callable[[], Any]) -> None:
        """Run Lightning's closure and the update that follows it."""
        with self._processor:
            self._before_step()
            step()
            self._after_step(inspected=True)
        if self._log.due:  # now: a checkpoint of this step is written before the module's `on_train_batch_end`
            try:
                with self._processor:
                    row = self.row()
                write_row(self._trainer, row)
            except NonFiniteGradientError as failure:
                self._failure = failure  # raised when the trainer has counted the step

    # ------------------------------------------------------------------ steps without Lightning

    def run_ahead(self, groups: Groups) -> Iterator[Batch]:
        """Train on the leading batches of each group, and yield its last for Lightning's step."""
        if self._run_ahead is None:
            return (group.last() for group in groups(lambda: 1))
        return self._run_ahead(groups)

    def prepare(self) -> AbstractContextManager[None]:
        """Get ready for steps without Lightning; they are made within what is returned."""
        self._layout.attach()
        self.engine.renew()
        return self._processor

    def begin_step(self) -> bool:
        """Count the step; returns whether a row is due after it."""
        return self._log.begin(self._log.step + 1)

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
        self._before_step()
        if self._switch is not None:
            self._switch.train()
        world = self._ranks.world
        self.engine.gradient(batch, world, uniform)
        if world > 1 and self._averaging is None:
            self._ranks.average(self._gradients())
        if clip is not None:
            self.inspect()  # before it hides what the gradient was
        if self._log.due:
            self._log.measure(self._gradients())
        if clip is not None:
            clip()
        update()
        self._after_step(inspected=clip is not None)

    def leanest_update(self) -> Callable[[], Any]:
        """The optimizer's part of a step."""
        return self._update.leanest()

    def makes_several(self) -> bool:
        """Whether several steps can be made in one graph."""
        sound = self._guard is not None and self._guard.is_known_sound
        return self._whole is not None and sound and not self._update.is_hooked()

    def steps_until_row(self) -> int:
        """How many steps there are until a row is due, the one included after which it is."""
        return self._log.until_row()

    def made_at_once(self, rows: Rows, count: int) -> Callable[[], bool] | None:
        """What makes the steps on these rows and says whether a row is due, or None: make them one by one."""
        whole, guard, log = self._whole, self._guard, self._log
        take = None if whole is None else whole.made(rows, count)
        if take is None or guard is None:
            return None

        def taken() -> bool:
            take()
            guard.clear(log.step + 1, count)
            self._stepped = True
            if log.begin(log.step + count):
                log.measure(self._gradients())
            return log.due

        return taken

    # ------------------------------------------------------------------ what both have

    def inspect(self) -> None:
        """Let no gradient pass that is not finite."""
        if self._guard is not None:
            self._guard.inspect(self._log.step)

    def _before_step(self) -> None:
        if self._switch is not None:
            self._switch.eval()
        if self._guard is not None:
            self._guard.before_update()

    def _after_step(self, inspected: bool) -> None:
        """Outside of a step, parameters stand where they are to be evaluated, and are finite.

        Args:
            inspected: whether the guard has seen the step's gradient.
        """
        if self._switch is not None:
            self._switch.eval()
        if self._guard is not None:
            self._guard.after_update(None if inspected else self._log.step)
        if self._averaging is not None:
            self._averaging.after_step(self._log.step)
        self._stepped = True

    def after_batch(self) -> None:
        """In the middle of an accumulation window, put the parameters where they are to be evaluated.

        Raises:
            NonFiniteGradientError: if a row was due, and a gradient was not finite.
        """
        if self._failure is not None:
            raise self._failure
        if not self._stepped:
            self.evaluate_here()
        self._stepped = False

    def row(self) -> dict[str, float]:
        """Look at the device, and give the row to log."""
        self.look()
        return self._log.row()

    def _gradients(self) -> list[Tensor]:
        if self._layout.storage is not None:
            return [self._layout.storage.gradient]
        return [p.grad for _, p in self._watched if p.grad is not None]

    # ------------------------------------------------------------------ where others look

    def after_epoch(self) -> None:
        """Look at the device, and write the epoch's mean loss."""
        self.look()
        self.make_alike()
        self.evaluate_here()
        with self._processor:
            sums = None if epoch_is_complete(self._trainer) else self._means.state()
            total, rows = self._means.epoch()
            if sums is not None:  # the epoch was cut short, and goes on when the fit is resumed
                self._means.restore(sums)
        write_epoch_row(self._trainer, {"train/epoch_loss": total / rows})

    def look(self) -> None:
        """Raise what the device has recorded.

        Raises:
            NonFiniteGradientError: if a gradient was not finite.
        """
        if self._guard is None:
            return
        if self._averaging is None:
            self._guard.raise_if_tripped(self._trainer.current_epoch)
        else:
            self._averaging.agree(self._guard.failure(self._trainer.current_epoch))

    def make_alike(self) -> None:
        """Give every rank the same parameters, before they are judged or saved."""
        if self._averaging is not None:
            self._averaging.now()

    def evaluate_here(self) -> None:
        """Put the parameters where they are to be evaluated, also in the middle of a window."""
        if self._switch is not None:
            self._switch.eval()

    def state(self) -> dict[str, Any]:
        """What this rank needs, beside parameters and optimizer, to continue with the same bits; as plain data."""
        own = None if self._averaging is None else self._trainer.optimizers[0].state_dict()
        return {"means": self._means.state(), "row_at": self._log.row_at, "optimizer": own}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned; after `start`."""
        self._means.restore(state["means"])
        self._log.row_at = state["row_at"]
        if self._averaging is not None and state["optimizer"] is not None:
            self._trainer.optimizers[0].load_state_dict(state["optimizer"])

    def end(self) -> None:
        """Training by minibatches has no outcome of its own; parameters get memory of their own again."""
        self._layout.release()
        self._run_ahead = None
        self._update.restore()
        self._processor.end()
        self._ranks.close()


def _refuse_single_rows(network: nn.Module, loader: Any) -> None:
    normalizes = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
    smallest = getattr(loader, "smallest_batch", None)
    if normalizes and smallest is not None and smallest < 2:
        raise ConfigurationError(
            f"batch normalization needs at least 2 rows in every batch, and the smallest here has {smallest}: "
            "choose another batch_size, or batch_norm: false"
        )
