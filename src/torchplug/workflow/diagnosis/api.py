"""`torchplug.diagnose`: why a fit is as good or as bad as it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from torchplug.data.tabular import TabularData
from torchplug.errors import CheckpointError, ConfigurationError, TorchplugError
from torchplug.module import ComponentModule
from torchplug.registry.component import use
from torchplug.tracking.checkpoint_versions import version_notes
from torchplug.tracking.checkpoints import load_checkpoint, module_of, resolve_checkpoint
from torchplug.tracking.run import Run
from torchplug.tracking.stack import stack_file
from torchplug.workflow.diagnosis import codes
from torchplug.workflow.diagnosis.baselines import best_constant
from torchplug.workflow.diagnosis.curves import from_curves
from torchplug.workflow.diagnosis.measures import error_name, measure
from torchplug.workflow.diagnosis.optimum import (
    BOUND,
    LINEAR,
    SOLVERS,
    Solution,
    has_one_minimum,
    linear_network,
    minimize,
)
from torchplug.workflow.diagnosis.result import GOOD, Diagnosis, Parts
from torchplug.workflow.diagnosis.verdicts import Evaluated, Facts, judge

_BASELINE_STEPS = 100
"""Iterations of the linear baseline, which need not be exact."""


def diagnose(
    run: str | Path | Run,
    *,
    target: float | None = None,
    ignore: Sequence[str] = (),
    iterations: int = 100,
    data: TabularData | None = None,
    module: ComponentModule | None = None,
) -> Diagnosis:
    """Compare a trained model with its optimum and with baselines, and say what would lower its error.

    The model is that of the run's best checkpoint, else of its last. It is evaluated on training and validation split,
    beside the best constant, a linear model with a weak penalty (λ = 1/(2n)), and the minimum of F on the training
    split, which a full-batch optimizer of torchplug-second-order finds where F is convex in the parameters. For other
    models L-BFGS continues from the trained parameters, and gives a bound of the minimum. The test split is not
    evaluated. `diagnosis.json` is written into the run directory.

    Args:
        run: the run or its directory.
        target: the error that is wanted, above 0: the share of wrong labels, or the root mean squared error in units of
            the target. None: errors are judged by the baselines.
        ignore: codes that are left out, such as TPD003.
        iterations: of L-BFGS, for models that are not linear; 0 leaves the bound out.
        data: the table, where the run's was in memory.
        module: the trained module, where its network is your own `nn.Module`.

    Returns:
        the verdict with findings, figures and notes.

    Raises:
        ConfigurationError: for a directory that is no run, a table that has changed, or an unknown code.
        CheckpointError: if the run has no checkpoint, or many models.
        WriteError: if the result cannot be written.

    Example:
        >>> import torchplug
        >>> found = torchplug.diagnose(torchplug.runs("runs/mlp")[-1], target=0.02)  # doctest: +SKIP
        >>> found.verdict, found.findings[0].remedies  # doctest: +SKIP
    """
    _refuse(target, ignore, iterations)
    opened = run if isinstance(run, Run) else Run.open(run)
    found = Diagnosing(opened, target, frozenset(ignore), iterations, data, module).run_all()
    opened.write_json("diagnosis.json", found.plain())
    return found


def _refuse(target: float | None, ignore: Sequence[str], iterations: int) -> None:
    if target is not None and not target > 0:
        raise ConfigurationError(f"target is the error that is wanted, above 0, not {target}")
    unknown = [code for code in ignore if code not in codes.CODES]
    if unknown:
        known = ", ".join(f"{code} ({name})" for code, name in codes.CODES.items())
        raise ConfigurationError(f"there is no code {unknown[0]} to ignore: choose among {known}")
    if iterations < 0:
        raise ConfigurationError(f"iterations must be 0 or more, not {iterations}")


@dataclass(frozen=True)
class Diagnosing:
    """A diagnosis to be made; the arguments are those of `diagnose`."""

    run: Run
    target: float | None
    ignore: frozenset[str]
    iterations: int
    given_data: TabularData | None
    given_module: ComponentModule | None

    def run_all(self) -> Diagnosis:
        """Evaluate and judge."""
        notes = version_notes(self._content) if self.given_module is None else []
        models = {"model": self._evaluated(self._network)}
        solution = self._noting(notes, "optimum", self._optimum)
        if solution is not None:
            models["optimum" if self._is_minimum(solution) else "bound"] = self._evaluated(solution.network)
        linear = self._noting(notes, "linear baseline", self._linear)
        if linear is not None:
            models["linear"] = self._evaluated(linear.network)
        models["constant"] = self._evaluated(best_constant(self.module.loss, self.data, self._outputs))
        if models["model"].validation is None:
            notes.append("there is no validation split: overfitting cannot be seen")
        facts = self._facts(models, solution)
        findings = tuple(finding for finding in judge(facts) if finding.code not in self.ignore)
        verdicts = [finding.name for finding in findings if finding.code != codes.FEW_VALIDATION_ROWS[0]]
        return Diagnosis(
            verdict=verdicts[0] if verdicts else GOOD,
            findings=findings,
            models=models,
            error_name=facts.error_name,
            parts=self._parts(facts, solution),
            objective=self._objectives(solution),
            target=self.target,
            notes=tuple(notes),
            run=self.run,
        )

    # ------------------------------------------------------------------ what was trained

    @cached_property
    def _checkpoint(self) -> Path:
        if stack_file(self.run.path).is_file():
            raise CheckpointError(f"{self.run.path} holds many models, and a diagnosis is of one: fit it by itself")
        if self.run.selected.is_file():
            return self.run.selected  # validation rows are no training rows of this one
        return resolve_checkpoint(str(self.run.path), "")

    @cached_property
    def _content(self) -> Mapping[str, Any]:
        return load_checkpoint(self._checkpoint, resume=False)

    @cached_property
    def module(self) -> ComponentModule:
        """The trained module."""
        if self.given_module is not None:
            return self.given_module
        content = self._content
        if content["hyper_parameters"].get("model") is None:
            raise ConfigurationError(f"{self.run.path} trained a network of your own: give its module (module=…)")
        return module_of(content, self._checkpoint)

    @cached_property
    def data(self) -> TabularData:
        """The tables of the fit, prepared as they were for it."""
        data = self.given_data.copied() if self.given_data is not None else self._data_of_run()
        data.prepare(self.module.data_request())
        fitted = self._content.get(TabularData.__qualname__)
        if fitted and fitted["fingerprints"] != data.fingerprints:
            raise ConfigurationError(
                f"the tables are not those of {self.run.path}: rows that it was trained on would count as validation; "
                "fit again"
            )
        return data

    def _data_of_run(self) -> TabularData:
        settings: dict[str, Any] = dict(self.run.config["data"])
        in_memory = [key for key in ("source", "validation", "test") if str(settings.get(key)).endswith(" in memory>")]
        if in_memory:
            raise ConfigurationError(
                f"{self.run.path} was trained on a table in memory: diagnose it in Python (data=…)"
            )
        return TabularData(**settings)

    @cached_property
    def _network(self) -> nn.Module:
        network = self.module.network
        if network is None:
            raise ConfigurationError("the module is not trained")
        return network

    @property
    def _outputs(self) -> int:
        assert self.data.preprocessing is not None, "it is prepared"
        return self.module.loss.outputs(self.data.preprocessing.info)

    # ------------------------------------------------------------------ what it is compared with

    def _evaluated(self, network: nn.Module) -> Evaluated:
        train = measure(network, self.module, self.data, "train")
        assert train is not None, "it has trained"
        return Evaluated(train, measure(network, self.module, self.data, "validation"))

    @cached_property
    def _is_convex(self) -> bool:
        return has_one_minimum(self.module, self.data)

    def _is_minimum(self, solution: Solution) -> bool:
        return self._is_convex and solution.is_minimum

    def _optimum(self) -> Solution | None:
        if self._is_convex:
            return minimize(self.module, self._network, self.data, SOLVERS)
        if not self.iterations:
            return None
        return minimize(self.module, self._network, self.data, BOUND, self.iterations)

    def _linear(self) -> Solution:
        assert self.data.preprocessing is not None, "it is prepared"
        network = linear_network(len(self.data.preprocessing.feature_names), self._outputs)
        weak = [use("l2", coefficient=self._per_row / 2)]
        return minimize(self.module, network, self.data, LINEAR, _BASELINE_STEPS, regularizers=weak)

    def _noting(self, notes: list[str], what: str, find: Any) -> Any:
        """What is found; None with a note where it cannot be."""
        try:
            return find()
        except TorchplugError as error:
            notes.append(f"no {what}: {error}")
            return None

    # ------------------------------------------------------------------ what follows

    @property
    def _per_row(self) -> float:
        """1/n where F is a mean over the rows, else 1."""
        return 1 / self.data.sizes["train"] if self.module.reduction == "mean" else 1.0

    @cached_property
    def _objective(self) -> float:
        """F of the model, in double precision."""
        network = copy.deepcopy(self._network).cpu().double()
        problem = ComponentModule(
            model=network,
            loss=self.module.resolved.loss.spec,
            regularizers=[component.spec for component in self.module.resolved.regularizers],
            optimizer=self.module.resolved.optimizer.spec,
            reduction=self.module.reduction,
        )
        train = measure(network, self.module, self.data, "train")
        assert train is not None, "it has trained"
        rows = 1 if self.module.reduction == "mean" else self.data.sizes["train"]
        return train.loss * rows + float(problem.step_objective().penalty())

    def _objectives(self, solution: Solution | None) -> dict[str, float]:
        if solution is None:
            return {"model": self._objective}
        return {"model": self._objective, "minimum" if self._is_minimum(solution) else "bound": solution.objective}

    def _facts(self, models: dict[str, Evaluated], solution: Solution | None) -> Facts:
        is_mean = self.module.reduction == "mean"
        gap = None if solution is None else self._objective - solution.objective
        is_full_batch = self.module.resolved.is_full_batch
        return Facts(
            model=models["model"],
            constant=models["constant"],
            linear=models.get("linear"),
            optimum=models.get("optimum", models.get("bound")),
            gap=gap if gap is None or is_mean else gap / self.data.sizes["train"],
            estimation=self._estimation(models, solution),
            is_minimum=solution is not None and self._is_minimum(solution),
            error_name=error_name(models["model"].train.metrics, self.module.loss),
            target=self.target,
            curves=from_curves(self.run, is_full_batch),
            is_linear=self._is_convex,
            is_full_batch=is_full_batch,
            penalized=bool(self.module.resolved.regularizers),
            dropout=any(isinstance(m, nn.Dropout) and m.p > 0 for m in self._network.modules()),
        )

    def _parts(self, facts: Facts, solution: Solution | None) -> Parts | None:
        if solution is None or facts.optimum is None:
            return None
        floor, gap = facts.optimum.train.loss, facts.gap_of(facts.model)
        noise = self._noise_floor(floor, solution) if facts.is_minimum else None
        return Parts(
            floor=floor,
            optimizer_gap=facts.model.train.loss - floor,
            generalization_gap=None if gap is None else gap.value,
            noise_floor=noise,
        )

    def _estimation(self, models: dict[str, Evaluated], solution: Solution | None) -> float:
        if solution is None or "optimum" not in models:
            return 0.0
        floor = models["optimum"].train.loss
        return (self._noise_floor(floor, solution) or floor) - floor

    def _noise_floor(self, floor: float, solution: Solution) -> float | None:
        parameters, rows = solution.effective_parameters, self.data.sizes["train"]
        if parameters is None:
            return None
        if self.module.loss.likelihood:
            return floor + parameters / (2 * rows)
        numbers = rows * self._outputs
        if not hasattr(self.module.loss, "residuals") or parameters >= numbers:
            return None
        return floor * numbers / (numbers - parameters)
