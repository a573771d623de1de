"""ComponentModule: a LightningModule assembled from components by name."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning
import polars
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from torchplug.assembly import Assembly, SpecLike, check_network
from torchplug.batch import Batch, as_batch
from torchplug.checkpoint_record import KEY, carried_preprocessing, checkpoint_record, network_dtype
from torchplug.coefficients import coefficient_table, original_coefficients
from torchplug.component import Iteration, Outcome
from torchplug.errors import CheckpointError, ConfigurationError, DataError
from torchplug.evaluation import PartEvaluations, original_units, predicted
from torchplug.execution import Engine, FullSet, StepsPerCall, planned_steps, strategy_for
from torchplug.execution.fit_progress import FitProgress
from torchplug.execution.lightning_internals import resumes_within_epoch
from torchplug.execution.watching import NEVER, step_watching_schedulers
from torchplug.metrics import epoch_metrics
from torchplug.models import Linear
from torchplug.objective import Reduction, StepObjective
from torchplug.preprocessing import DataRequest, Preprocessing
from torchplug.registry import Resolved
from torchplug.tables import as_frame, enumerate_names


class ComponentModule(lightning.LightningModule):
    r"""Trains F = (1/n) Σ wᵢ ℓᵢ + Σ λR with components that are asked for by name.

    Names and parameters are checked here, at construction; data and strategy in `setup`, before
    the first step. The network is built when the data's sizes are known, and a checkpoint carries
    sizes and preprocessing, so that it predicts alone.

    Args:
        model: a model's name or spec, or your own `nn.Module` giving scores (n, k).
        loss: a loss's name or spec.
        optimizer: an optimizer's name or spec.
        regularizers: names or specs of penalties, each added with its λ.
        scheduler: a learning-rate scheduler's name or spec, or None for a constant rate.
        reduction: `mean` as in F above; `sum` drops the 1/n (and 1/|B| of a batch).
        engine: how the gradients of minibatches are computed: `chain` by hand, for chains of linear maps and
            activations; `autograd`; `auto` by hand where that is possible.
        steps_per_call: how many optimizer steps are made per call of Lightning's, at least 1, with the same results;
            `auto`: as many as a twentieth of a second holds, or 1 where somebody looks at single steps.
        sync_every: None averages gradients over ranks at every step, which is exact. A number K lets each rank make
            steps of its own and averages parameters at every K-th: faster, and another algorithm (post-local SGD).

    Raises:
        UnknownComponentError: for a name that no plugin offers.
        ParameterError: for a parameter that does not exist, or is of the wrong type or range.
        ConfigurationError: for components that do not go together.

    Example:
        >>> from torchplug import ComponentModule, use
        >>> module = ComponentModule(use("linear"), "mse", use("sgd", lr=0.1), [use("l2", coefficient=1e-3)])
        >>> [component.qualified_name for component in module.components][:2]
        ['torchplug:linear', 'torchplug:mse']
    """

    def __init__(
        self,
        model: SpecLike | nn.Module | None = None,
        loss: SpecLike = "mse",
        optimizer: SpecLike = "adam",
        regularizers: Sequence[SpecLike] = (),
        scheduler: SpecLike | None = None,
        reduction: Reduction = "mean",
        engine: Engine = "auto",
        steps_per_call: StepsPerCall = "auto",
        sync_every: int | None = None,
    ) -> None:
        super().__init__()
        if model is None:
            raise ConfigurationError(
                "no model: name one, or pass your own nn.Module (also to load_from_checkpoint(path, model=...), "
                "where a checkpoint was trained with one)"
            )
        own, named = (model, None) if isinstance(model, nn.Module) else (None, model)
        self.assembly = Assembly.of(named, loss, optimizer, regularizers, scheduler)
        if reduction not in ("mean", "sum"):
            raise ConfigurationError(f"reduction is 'mean' or 'sum', not {reduction!r}")
        execution = {"engine": engine, "steps_per_call": steps_per_call, "sync_every": sync_every}
        self.save_hyperparameters({**self.assembly.plain(), "reduction": reduction, **execution}, logger=False)
        self.reduction: Reduction = reduction
        self.network: nn.Module | None = own
        self.loss = self.assembly.build_loss()
        self.regularizers = nn.ModuleList(self.assembly.build_regularizers())
        self.preprocessing: Preprocessing | None = None
        self.execution = strategy_for(self.assembly.optimizer, engine, steps_per_call, sync_every)
        self._evaluations = PartEvaluations(self.loss)
        self._progress = FitProgress()

    # ------------------------------------------------------------------ what is asked, and of whom

    @property
    def components(self) -> list[Resolved]:
        """The components in use, with owner and version."""
        return self.assembly.components

    def data_request(self) -> DataRequest:
        """What the data module must know to encode features and target for these components."""
        model = self.assembly.model
        linear = model is not None and isinstance(model.target, type) and issubclass(model.target, Linear)
        bias = bool(model.parameters.get("bias", True)) if model is not None and linear else True
        return DataRequest(
            kind=self.loss.kind,
            loss=self.assembly.loss.name,
            center=bias,
            reference=linear and bias,
            standardize_target=not linear,
            preprocessing=self.preprocessing,
            full_set=self.assembly.sees_full_set,
        )

    @property
    def outcome(self) -> Outcome | None:
        """How a full-set optimizer ended the training, else None."""
        return self.execution.outcome

    @property
    def iteration(self) -> Iteration | None:
        """The last step of a full-set optimizer, else None."""
        return self.execution.iteration

    def adopt(self, data: Any) -> None:
        """Take sizes and preprocessing from a prepared data module, and build the network.

        `TabularData.setup` calls it, ahead of the callbacks' `setup`: some of them copy the network.

        Raises:
            DataError: if the loss cannot be computed on this target.
            ConfigurationError: if your own network does not give the scores that the loss wants.
        """
        preprocessing: Preprocessing = data.preprocessing
        name = self.assembly.loss.name
        try:
            outputs = self.loss.outputs(preprocessing.info)
            data.check_target(self.loss)
        except ValueError as error:
            raise DataError(f"target {enumerate_names(preprocessing.info.columns)}: {name} {error}") from error
        self.preprocessing = preprocessing
        self._evaluations.compare_with(data.target_scale)
        inputs = len(preprocessing.feature_names)
        if self.network is None:
            self._build_network(inputs, outputs)
        self.assembly.set_precision(self._built(), self.loss)
        check_network(self._built(), inputs, outputs, wanted_by=name)
        # Penalties whose patterns match nothing are refused here, before any rank is launched.
        problem = self._objective()
        if isinstance(self.execution, FullSet):
            optimizer = self.assembly.build_optimizer(self._parameter_groups(), problem)
            self.execution.refuse(optimizer, problem, data.training_set)
        else:
            self.execution.refuse_engine(problem)

    def saved_outcome(self, optimizer_state: Any) -> Outcome | None:
        """How the optimizer of a saved fit had ended the training, if it had.

        Args:
            optimizer_state: as a checkpoint holds it.
        """
        if not self.assembly.sees_full_set:
            return None
        optimizer = self.assembly.build_optimizer(self._parameter_groups(), self._objective())
        optimizer.load_state_dict(optimizer_state)
        outcome: Outcome | None = getattr(optimizer, "outcome", None)
        return outcome

    def _build_network(self, inputs: int, outputs: int) -> None:
        self.network = self.assembly.build_network(inputs, outputs)

    def _built(self) -> nn.Module:
        if self.network is None:
            raise ConfigurationError(
                "the network's sizes are not known yet: fit with TabularData, load a checkpoint, or pass an nn.Module"
            )
        return self.network

    def _parameter_groups(self) -> list[dict[str, Any]]:
        return self.assembly.parameter_groups(self._built(), self.loss)

    def _objective(self) -> StepObjective:
        return StepObjective(self._built(), self.loss, self.regularizers, self.reduction)  # type: ignore[arg-type]

    # ------------------------------------------------------------------ setting up

    def setup(self, stage: str) -> None:
        """Refuse to go on without a network, or with settings that would train wrongly; on every rank."""
        if stage == "fit":
            self.execution.refuse_settings(self.trainer)
            self.assembly.set_precision(self._built(), self.loss)
        # Lightning converts it too, but only after a checkpoint's float64 would have been rounded to float32.
        self.trainer.precision_plugin.convert_module(self._built())

    def configure_optimizers(self) -> Any:
        """The optimizer and, if one is asked for, its scheduler, as Lightning wants them."""
        objective = self._objective()
        flat = self.assembly.takes_flat(objective)
        groups = self.execution.arrange(self.trainer, objective, self._parameter_groups(), flat)
        optimizer = self.assembly.build_optimizer(groups, objective)
        self.execution.take(optimizer)
        if self.assembly.scheduler is None or not self.assembly.takes_learning_rate:
            return optimizer
        scheduler = self.assembly.build_scheduler(optimizer, *planned_steps(self.trainer))
        monitor = getattr(scheduler, "monitor", None)
        config = {"scheduler": scheduler, "interval": getattr(scheduler, "interval", "epoch"), "monitor": monitor}
        if monitor is not None:
            self._check_monitor(monitor)
            if config["interval"] == "epoch":
                config["frequency"] = NEVER  # Lightning steps it after the epoch's checkpoint is written
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _check_monitor(self, monitor: str) -> None:
        data: Any = getattr(self.trainer, "datamodule", None)
        validated = bool(getattr(data, "sizes", {}).get("validation", 1))
        known = ["train/loss", *epoch_metrics(self.loss.kind, validated)]
        if monitor not in known:
            raise ConfigurationError(f"the scheduler watches {monitor}, which is not logged: watch {', '.join(known)}")

    def notes(self, trainer: lightning.Trainer, batch_size: Any) -> list[str]:
        """What the user should know of a fit to come, and did not ask."""
        rows = batch_size if isinstance(batch_size, int) else 1
        return [*self.assembly.notes(self.network), *self.execution.notes(trainer, self._built(), rows)]

    # ------------------------------------------------------------------ training

    def forward(self, features: Any) -> Tensor:
        """Scores (n, k) for encoded features."""
        scores: Tensor = self._built()(features)
        return scores

    def on_train_epoch_start(self) -> None:
        """Take up the layers that a callback has frozen or unfrozen."""
        self.execution.follow(self._objective)
        self._lead_batches()

    def on_fit_start(self) -> None:
        """A fit that is resumed starts with the metrics that it had."""
        self._progress.restore_metrics(self.trainer)

    def on_train_start(self) -> None:
        """Parameters, optimizer and loaders are in place: refuse what would fail or train wrongly."""
        self.execution.start(self.trainer, self._objective())
        self._progress.resume(self.trainer, self.execution)
        for note in self.notes(self.trainer, getattr(self.trainer.train_dataloader, "batch_size", None)):
            rank_zero_info(note)
        if resumes_within_epoch(self.trainer):  # whose start has no hook
            self._lead_batches()

    def _lead_batches(self) -> None:
        """Lead the trainer's next pass over its training loader, and no other, through the strategy."""
        loader: Any = self.trainer.train_dataloader
        if hasattr(loader, "through"):
            loader.through = self.execution.run_ahead

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """What this rank backpropagates."""
        self._progress.batch_begins(self.trainer, self.execution)
        given: Any = batch if isinstance(self.execution, FullSet) else self._as_batch(batch, batch_idx)
        return self.execution.training_step(given)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Forget the last step's gradient."""
        self.execution.zero_gradient(optimizer.zero_grad)

    def is_boundary(self) -> bool:
        """Whether training may stop after the last step, to go on from a checkpoint later."""
        return self.execution.is_boundary()

    def boundary_batches(self) -> int:
        """After how many batches of an evaluation ranks ask each other whether to stop."""
        loader: Any = getattr(self.trainer, "datamodule", None)
        rows = getattr(loader, "batch_size", 1)
        return self.execution.boundary_steps(self._built(), rows if isinstance(rows, int) else 1)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Guard the reduced gradient, and measure it where a row is due."""
        self.execution.before_update()

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """One update."""
        self.execution.optimizer_step(functools.partial(optimizer.step, closure=optimizer_closure))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """In the middle of an accumulation window, parameters stand where they are to be evaluated."""
        self.execution.after_batch()

    def on_train_epoch_end(self) -> None:
        """Look at the device, write the epoch's mean loss, and step a schedule that watches a metric."""
        self.execution.after_epoch()
        step_watching_schedulers(self.trainer, validated=self._progress.validated_in_epoch(self.trainer))
        self._progress.epoch_ended(self.trainer)

    def on_train_end(self) -> None:
        """Say how training ended."""
        self.execution.end()

    def _as_batch(self, batch: Any, batch_idx: int) -> Batch:
        if isinstance(batch, Batch):
            return batch
        trainer = self.trainer
        training = bool(trainer.training)
        return as_batch(
            batch,
            batch_idx,
            world=trainer.world_size,
            window=trainer.accumulate_grad_batches if training else 1,
            batches=trainer.num_training_batches if training else math.inf,
            indices=self.loss.kind == "multiclass",
        )

    # ------------------------------------------------------------------ evaluation

    def on_validation_start(self) -> None:
        """During a fit, look at the device before anything is judged or saved."""
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.execution.look()
            self.execution.make_alike()
            self.execution.evaluate_here()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate("val", self._as_batch(batch, batch_idx))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self._evaluate("test", self._as_batch(batch, batch_idx))

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._finish_evaluation("val")
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._progress.validated(self.trainer)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._finish_evaluation("test")

    def _evaluate(self, part: str, batch: Batch) -> None:
        self._evaluations.update(part, self(batch.features), batch, self.preprocessing)

    def _finish_evaluation(self, part: str) -> None:
        values = self._evaluations.finish(part)
        if not self.trainer.sanity_checking:
            undefined = [name.partition("/")[2] for name in self._evaluations.newly_undefined(values)]
            if undefined:
                rank_zero_warn(f"{part}: {', '.join(undefined)} undefined on this part, logged as null")
        for name, value in values.items():
            # The ranks already agree, and the maximum of equal numbers is exact where a mean rounds.
            self.log(name, value.to(self.device), reduce_fx="max", sync_dist=True, prog_bar=name.endswith("/loss"))

    # ------------------------------------------------------------------ prediction

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Predictions, link applied and in the target's units, in float64 on the CPU."""
        own = isinstance(batch, list | tuple) and not isinstance(batch, Batch)
        features = batch.features if isinstance(batch, Batch) else batch[0] if own else batch
        return self._original(self.loss.link(self(features).double())).cpu()

    def _original(self, values: Tensor) -> Tensor:
        return original_units(values, self.loss, self.preprocessing)

    def predict(self, source: Any, name: str = "the data") -> polars.DataFrame:
        """Predict rows given as the training data were: an array, or a frame with those columns.

        Args:
            source: NumPy array, tensor, polars or pandas frame (n rows). The target is not needed.
            name: what messages call it.

        Returns:
            n rows: a column per target in its own units; for classes the label and `probability_…`.

        Raises:
            DataError: if columns are missing or hold what training never saw.
            ConfigurationError: if there is no preprocessing: nothing was fitted or loaded.
        """
        if self.preprocessing is None:
            raise ConfigurationError("nothing to predict with: fit first, or load a checkpoint")
        predictions = predicted(self._built(), self.loss, self.preprocessing, as_frame(source), name)
        return self.decode(self._original(predictions))

    def decode(self, predictions: Tensor) -> polars.DataFrame:
        """Name the columns of predictions, as `Trainer.predict` gives them, and restore labels."""
        if self.preprocessing is None:
            raise ConfigurationError("nothing to decode with: fit first, or load a checkpoint")
        return self.preprocessing.decode(predictions, self.loss.prediction_names(self.preprocessing.info))

    def coefficients(self) -> list[tuple[str, str, float]]:
        """(output, feature, coefficient) of a linear model in original units, float64.

        Raises:
            ConfigurationError: if the model is not linear, or not fitted.
        """
        return original_coefficients(self._built(), self.preprocessing)

    def coefficient_table(self) -> polars.DataFrame:
        """The coefficients as a table; with standard errors, t or z, p and 95 % intervals where the optimizer has them.

        A network of your own has a row for each parameter, if its fit by a full-batch optimizer has converged.

        Raises:
            ConfigurationError: if the model is neither linear nor has standard errors, or is not fitted.
        """
        modules = (("", self._built()), ("loss.", self.loss))
        parameters = [(p + name, t) for p, m in modules for name, t in m.named_parameters() if t.requires_grad]
        return coefficient_table(self._built(), self.preprocessing, self.execution.statistics, parameters)

    @property
    def has_coefficients(self) -> bool:
        """Whether `coefficient_table` has rows: for a linear model, or one for which there are standard errors."""
        return isinstance(self.network, Linear) or self.execution.statistics is not None

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record which code this is, and what prediction needs; each tensor with memory of its own."""
        checkpoint["state_dict"] = {name: value.clone() for name, value in checkpoint["state_dict"].items()}
        checkpoint[KEY] = checkpoint_record(self.assembly, self.loss, self.preprocessing)
        trainer = self._trainer
        if trainer is not None and trainer.state.fn == "fit":
            checkpoint[KEY]["fit"] = self._progress.state(trainer, self.execution)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up a checkpoint's preprocessing, or refuse one that belongs to other data.

        Raises:
            CheckpointError: if it is not ours, or its features are not those of the data.
        """
        self.preprocessing = carried = carried_preprocessing(checkpoint, self.preprocessing)
        trainer = self._trainer
        if trainer is not None and trainer.state.fn == "fit":
            if "fit" not in checkpoint[KEY]:
                raise CheckpointError("this checkpoint holds a model without its training, which cannot be continued")
            self._progress.load(checkpoint[KEY]["fit"], checkpoint["loops"]["fit_loop"])
        if self.network is None and carried is not None:
            self._build_network(len(carried.feature_names), checkpoint[KEY]["outputs"])
            self._built().to(network_dtype(checkpoint))
