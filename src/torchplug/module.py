"""ComponentModule: a LightningModule assembled from components by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from torchplug import checks
from torchplug.checked_network import check_network
from torchplug.checkpoint_record import (
    CALIBRATION,
    KEY,
    carried_preprocessing,
    checkpoint_record,
    network_dtype,
    plain_numbers,
    version_notes,
)
from torchplug.components.parameter_groups import PatternSettings
from torchplug.data_dependent_start import start_from_rows
from torchplug.errors import CheckpointError, ConfigurationError, DataError
from torchplug.evaluation.calibration import Calibration
from torchplug.objective import Reduction, StepObjective
from torchplug.preprocessing import DataRequirements, Preprocessing
from torchplug.registry import Resolved
from torchplug.resolved_config import ResolvedConfig, SpecLike
from torchplug.tables import enumerate_names
from torchplug.trained_module import TrainedModule
from torchplug.training import Engine, Execution, FullBatch, Minibatches, StepsPerExecution, planned_steps
from torchplug.training.watching import NEVER

_TRIED_ROWS = 3

HOW_STEPS_ARE_MADE = tuple(field.name for field in fields(Execution))
"""Parameters that say how a module is trained, and may change when training is resumed."""

EVALUATION_SETTINGS = ("metrics", "calibrate")
"""Parameters that training does not depend on."""


def hyper_parameters(
    resolved: ResolvedConfig, reduction: Reduction, options: Execution, calibrate: bool
) -> dict[str, Any]:
    """The parameters of a module in plain types, as a checkpoint has them."""
    return {**resolved.plain(), "reduction": reduction, **asdict(options), "calibrate": calibrate}


class ComponentModule(TrainedModule):
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
        metrics: names or specs of metrics beside those of the loss's kind.
        groups: settings of parameters by glob patterns of their names, or of what follows a dot in them:
            `{"bias": {"lr": 0.1}, "embedding.*": {"weight_decay": 0}}`. `lr` ≥ 0 is a factor of the optimizer's
            learning rate, `weight_decay` ≥ 0 replaces its. Of several patterns the last one that sets it counts.
        reduction: `mean` as in F above; `sum` drops the 1/n (and 1/|B| of a batch).
        engine: how gradients of minibatches are computed: `analytic` (for chains of linear maps and activations),
            `autograd`, `compiled`, or `auto`, which chooses.
        steps_per_execution: optimizer steps per step of Lightning's, at least 1, with the same results; `auto`: as
            many as fit into a twentieth of a second, or 1 where a callback needs every step.
        sync_every: None averages gradients over ranks at every step, which is exact. A number K lets each rank make
            steps of its own and averages parameters at every K-th: faster, and another algorithm (post-local SGD).
        gradient_norms: whether to log `train/gradient_norm/<layer>` beside `train/gradient_norm`, every
            `log_every_n_steps`: the Euclidean norm of the reduced gradient, before clipping, over a layer's parameters.
        calibrate: whether probabilities of classes are those of scores divided by a temperature T > 0, found on the
            validation split when the fit ends, see `Temperature`. Training and labels do not depend on it.

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
        metrics: Sequence[SpecLike] = (),
        groups: PatternSettings | None = None,
        reduction: Reduction = "mean",
        engine: Engine = "auto",
        steps_per_execution: StepsPerExecution = "auto",
        sync_every: int | None = None,
        gradient_norms: bool = False,
        calibrate: bool = False,
    ) -> None:
        if model is None:
            raise ConfigurationError(
                "no model: name one, or pass your own nn.Module (also to load_from_checkpoint(path, model=...), "
                "where a checkpoint was trained with one)"
            )
        own, named = (model, None) if isinstance(model, nn.Module) else (None, model)
        resolved = ResolvedConfig.of(named, loss, optimizer, regularizers, scheduler, metrics, groups)
        if reduction not in ("mean", "sum"):
            raise ConfigurationError(f"reduction is 'mean' or 'sum', not {reduction!r}")
        options = Execution(engine, steps_per_execution, sync_every, gradient_norms)
        checks.refuse_options(resolved, options)
        strategy = (
            FullBatch()
            if resolved.is_full_batch
            else Minibatches(options, resolved.has_update, resolved.why_closure, resolved.needs_graph)
        )
        super().__init__(own, resolved.build_loss(), resolved.metric_choice, strategy)
        self.resolved = resolved
        self.options = options
        checks.refuse_calibrate(calibrate, self.loss, resolved.loss.name)
        self.calibrate = calibrate
        self.save_hyperparameters(hyper_parameters(resolved, reduction, options, calibrate), logger=False)
        self.reduction: Reduction = reduction
        self._saved = False
        self._version_notes: list[str] = []
        self.regularizers = nn.ModuleList(resolved.build_regularizers())

    # ------------------------------------------------------------------ what is asked, and of whom

    @property
    def components(self) -> list[Resolved]:
        """The components in use, with owner and version."""
        return self.resolved.components

    def data_request(self) -> DataRequirements:
        """What the data module must know to encode features and target for these components."""
        linear = self.resolved.linear
        bias = linear is None or linear.bias is not None
        return DataRequirements(
            kind=self.loss.kind,
            loss=self.resolved.loss.name,
            center=bias,
            reference=linear is not None and bias,
            standardize_target=linear is None,
            preprocessing=self.preprocessing,
            full_batch=self.resolved.is_full_batch,
        )

    def configure(self, data: Any) -> None:
        """Take sizes and preprocessing from a prepared data module, and build the network.

        `TabularData.setup` calls it, ahead of the callbacks' `setup`: some of them copy the network.

        Raises:
            DataError: if the loss cannot be computed on this target.
            ConfigurationError: if your own network does not give the scores that the loss needs.
        """
        preprocessing: Preprocessing = data.preprocessing
        name = self.resolved.loss.name
        try:
            outputs = self.loss.outputs(preprocessing.info)
            data.check_target(self.loss)
        except ValueError as error:
            raise DataError(f"target {enumerate_names(preprocessing.info.columns)}: {name} {error}") from error
        self.preprocessing = preprocessing
        self._evaluations.compare_with(data.target_scale)
        self.resolved.metric_choice.refuse_target(preprocessing.target_coding.labels, outputs)
        inputs = len(preprocessing.feature_names)
        if self.network is None:
            self.network = self.resolved.build_network(inputs, outputs, preprocessing.category_ranges)
            start_from_rows(self.network, data)
        self.resolved.set_precision(self._built(), self.loss)
        check_network(self._built(), inputs, outputs, wanted_by=name, components=self.components)
        self.resolved.parameter_groups(self._built(), self.loss)  # it refuses patterns that match nothing
        self._try_loss(data, outputs)
        if not self.resolved.optimizer.entry.builtin:
            self.build_optimizer(total_steps=1000, num_data=data.sizes["train"])  # it may refuse the network's shapes
        # Penalties whose patterns match nothing are refused here, before any rank is launched.
        checks.refuse_model(
            self.resolved, self.options, self.step_objective(), self.build_optimizer, lambda: data.training_set
        )

    def _try_loss(self, data: Any, outputs: int) -> None:
        """Try the loss on a few rows of the training target, where there are any."""
        checks.check_units(self.loss, self.resolved.loss.qualified_name, data.preprocessing.info)
        target = next(iter(data.rows_of("train").targets()))[:_TRIED_ROWS]
        if len(target):
            device = next(self.loss.parameters(), target).device
            checks.try_loss(self.loss, self.resolved.loss.qualified_name, target.to(device), outputs)

    def step_objective(self) -> StepObjective:
        """Return F on a minibatch, at the parameters that require gradients now."""
        return StepObjective(self._built(), self.loss, self.regularizers, self.reduction)  # type: ignore[arg-type]

    def build_optimizer(self, **planned: int) -> torch.optim.Optimizer:
        """Return a new optimizer over the parameters where they lie, which no fit uses."""
        groups = self.resolved.parameter_groups(self._built(), self.loss)
        return self.resolved.build_optimizer(groups, self.step_objective(), **planned)

    # ------------------------------------------------------------------ setting up

    def setup(self, stage: str) -> None:
        """Refuse to train without a network, or with settings that would train wrongly; on every rank."""
        if stage == "fit":
            checks.refuse_settings(self.resolved, self.options, self.trainer)
            self.resolved.set_precision(self._built(), self.loss)
        # Lightning converts it too, but only after a checkpoint's float64 would have been rounded to float32.
        self.trainer.precision_plugin.convert_module(self._built())

    def configure_optimizers(self) -> Any:
        """The optimizer and, if one is asked for, its scheduler, as Lightning expects them."""
        objective = self.step_objective()
        optimizer = self.execution.configure(
            self.trainer,
            objective,
            self.resolved.parameter_groups(self._built(), self.loss),
            build=lambda groups: self.resolved.build_optimizer(groups, objective, **self._planned()),
            elementwise=self.resolved.takes_flat(objective),
        )
        if self.resolved.scheduler is None or not self.resolved.takes_learning_rate:
            return optimizer
        scheduler = self.resolved.build_scheduler(optimizer, *planned_steps(self.trainer))
        monitor = getattr(scheduler, "monitor", None)
        config = {"scheduler": scheduler, "interval": getattr(scheduler, "interval", "epoch"), "monitor": monitor}
        if monitor is not None:
            checks.refuse_monitor(scheduler, "the scheduler", self._known_metrics(), self.resolved.metric_choice)
            if config["interval"] == "epoch":
                config["frequency"] = NEVER  # Lightning steps it after the epoch's checkpoint is written
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _planned(self) -> dict[str, int | None]:
        """The numbers that the optimizer asks for."""
        asked = self.resolved.optimizer.asked
        planned: dict[str, int | None] = {}
        if "total_steps" in asked:
            planned["total_steps"] = planned_steps(self.trainer)[0]
        if "num_data" in asked:
            data: Any = getattr(self.trainer, "datamodule", None)
            planned["num_data"] = getattr(data, "sizes", {}).get("train")
        return planned

    def _known_metrics(self) -> list[str]:
        """What a schedule may watch."""
        data: Any = getattr(self.trainer, "datamodule", None)
        validated = bool(getattr(data, "sizes", {}).get("validation", 1))
        return ["train/loss", *self.resolved.metric_choice.watchable(validated)]

    def notes(self, trainer: lightning.Trainer, batch_size: Any) -> list[str]:
        """What the user should know of a fit to come, and did not ask."""
        rows = batch_size if isinstance(batch_size, int) else 1
        return [*self.resolved.notes(self.network), *self.execution.notes(trainer, self._built(), rows)]

    def on_train_start(self) -> None:
        """Refuse what would fail or train wrongly, build the fit, and say what was chosen for it."""
        checks.refuse_start(self.resolved, self.options, self.trainer, self.step_objective())
        super().on_train_start()
        self._saved = False
        for note in self.notes(self.trainer, getattr(self.trainer.train_dataloader, "batch_size", None)):
            rank_zero_info(note)

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record which code this is, and what prediction needs; each tensor with memory of its own."""
        weights = {name: value.clone() for name, value in checkpoint["state_dict"].items()}
        checkpoint.update({**plain_numbers(checkpoint), "state_dict": weights})  # callbacks may set NumPy's numbers
        checkpoint[KEY] = checkpoint_record(self.resolved, self.loss, self.preprocessing, self.calibration)
        trainer = self._trainer
        if trainer is not None and trainer.state.fn == "fit":
            checkpoint[KEY]["fit"] = self._progress.state(trainer, self.execution.fit)
            if not self._saved:
                checks.refuse_state(self.resolved, checkpoint)
                self._saved = True

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up a checkpoint that Lightning loads, and warn if other versions made it.

        Raises:
            CheckpointError: as for `restore`.
        """
        before = self._version_notes
        self.restore(checkpoint)
        for note in self._version_notes[len(before) :]:
            rank_zero_warn(note)

    def restore(self, checkpoint: Mapping[str, Any]) -> None:
        """Take up a checkpoint's preprocessing, or refuse one that belongs to other data.

        The caller tells the user if other versions made it.

        Args:
            checkpoint: its content.

        Raises:
            CheckpointError: if it is not ours, or its features are not those of the data.
        """
        self.preprocessing = carried = carried_preprocessing(checkpoint, self.preprocessing)
        self._version_notes = list(dict.fromkeys([*self._version_notes, *version_notes(checkpoint[KEY])]))
        self.calibration = Calibration.from_state(checkpoint[KEY].get(CALIBRATION))
        trainer = self._trainer
        if trainer is not None and trainer.state.fn == "fit":
            if "fit" not in checkpoint[KEY]:
                raise CheckpointError("this checkpoint holds a model without its training, which cannot be continued")
            self._progress.load(checkpoint[KEY]["fit"], checkpoint["loops"]["fit_loop"])
        if self.network is None and carried is not None:
            self.network = self.resolved.build_network(
                len(carried.feature_names), checkpoint[KEY]["outputs"], carried.category_ranges
            )
            self._built().to(network_dtype(checkpoint))
