"""The minimum of the training objective, or a bound of it, by full-batch optimizers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from torchplug import interruption
from torchplug.batch import TrainingSet
from torchplug.components.contracts import Loss, linear_scores
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, UnknownComponentError
from torchplug.interruption import Interrupted
from torchplug.module import ComponentModule
from torchplug.objective import Objective
from torchplug.registry import registry
from torchplug.registry.component import Family, Spec
from torchplug.training.full_batch import full_batch_objective
from torchplug.workflow.diagnosis.measures import blocks

SOLVERS = ("closed_form", "interior_point", "proximal_newton", "newton")
"""Optimizers for models that are linear in their parameters: the first one that takes loss and penalties is used."""
BOUND = ("lbfgs",)
"""For any other model."""
LINEAR = ("closed_form", "interior_point", "lbfgs")
"""For the linear baseline."""
INSTALL = "the optimum needs full-batch optimizers: pip install torchplug-second-order"

_LIMIT = 500
_MOST_PARAMETERS = 2000


@dataclass(frozen=True)
class Solution:
    """Where a full-batch optimizer has come.

    Args:
        network: with its parameters, in double precision.
        objective: F there, penalties included.
        solver: the optimizer's name.
        iterations: how many steps it made.
        is_minimum: whether it has converged, so that F is minimal for a convex problem; else F is a bound.
        reason: how it ended.
        effective_parameters: tr(∇²L (∇²F)⁻¹), the number of parameters that the penalties leave free; None where it is
            not defined, and for large models.
    """

    network: nn.Module
    objective: float
    solver: str
    iterations: int
    is_minimum: bool
    reason: str
    effective_parameters: float | None


def minimize(
    module: ComponentModule,
    network: nn.Module,
    data: TabularData,
    solvers: Sequence[str],
    limit: int = _LIMIT,
    regularizers: Sequence[Spec] | None = None,
    rows: TrainingSet | None = None,
) -> Solution:
    """Minimize F over the training split from a network's parameters.

    Args:
        module: whose loss, penalties and reduction F has.
        network: where to start; it is left as it is.
        data: prepared.
        solvers: names of full-batch optimizers; the first one that takes this problem is used.
        limit: of iterations.
        regularizers: penalties in place of the module's.
        rows: those in place of the training split.

    Raises:
        ConfigurationError: if none of the solvers is installed, or none takes this problem.
    """
    penalties = _penalties(module) if regularizers is None else regularizers
    refusals = []
    for solver in solvers:
        try:
            problem = ComponentModule(
                model=copy.deepcopy(network).cpu(),
                loss=module.resolved.loss.spec,
                optimizer=solver,
                regularizers=penalties,
                reduction=module.reduction,
            )
            problem.loss.load_state_dict(module.loss.state_dict())
            problem.configure(data)
        except UnknownComponentError:
            continue
        except ConfigurationError as error:
            refusals.append(str(error))
            continue
        return _descend(problem, rows or data.training_set, limit)
    raise ConfigurationError(refusals[-1] if refusals else INSTALL)


def _penalties(module: ComponentModule) -> list[Spec]:
    """The module's penalties; those with a kink as proximal ones, whose F is the same."""
    found = []
    for component, built in zip(module.resolved.regularizers, module.resolved.build_regularizers(), strict=True):
        kinked = not built.smooth and not built.proximal
        spec = component.spec
        found.append(replace(spec, parameters={**spec.parameters, "proximal": True}) if kinked else spec)
    return found


def _descend(problem: ComponentModule, rows: TrainingSet, limit: int) -> Solution:
    step = problem.step_objective()
    objective = full_batch_objective(step, rows)
    optimizer: Any = problem.build_optimizer()
    iterations = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of dependent columns, which change no minimum
        while optimizer.outcome is None and iterations < limit:
            if interruption.requested():
                raise Interrupted
            optimizer.step(objective=objective)
            iterations += 1
    outcome, network = optimizer.outcome, problem.network
    assert network is not None, "it was given"
    return Solution(
        network=network,
        objective=objective.loss_value() + float(step.penalty()),
        solver=problem.resolved.optimizer.name,
        iterations=iterations,
        is_minimum=outcome is not None and outcome.name == "converged",
        reason=f"limit of {limit} iterations" if outcome is None else outcome.reason,
        effective_parameters=_effective_parameters(objective, problem),
    )


def _effective_parameters(objective: Objective, problem: ComponentModule) -> float | None:
    proximal = any(regularizer.proximal for regularizer, _ in problem.step_objective().penalties)
    if proximal or not problem.loss.smooth or objective.size > _MOST_PARAMETERS:
        return None
    curvature = objective.hessian()
    of_data = curvature - objective.penalties.hessian() if objective.penalties else curvature
    return float((torch.linalg.pinv(curvature, hermitian=True) @ of_data).trace())


def linear_network(inputs: int, outputs: int) -> nn.Module:
    """A linear model."""
    network: nn.Module = registry().resolve(Family.MODEL, "linear").build(inputs, outputs)
    return network


def has_one_minimum(module: ComponentModule, data: TabularData) -> bool:
    """Whether F is convex in θ: scores linear in the parameters, and a loss that is convex in the scores."""
    return linear_scores(module.network) is not None and _is_convex(module.loss, data)


@torch.no_grad()
def _is_convex(loss: Loss, data: TabularData, pairs: int = 2000) -> bool:
    """Whether ℓ((a + b)/2) ≤ (ℓ(a) + ℓ(b))/2 at random scores a and b, for targets of the training split."""
    if any(True for _ in loss.parameters()):
        return False
    loss = copy.deepcopy(loss).cpu().double()
    target = next(blocks(data, "train")).target
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(len(target), (pairs,), generator=generator)
    assert data.preprocessing is not None, "it is prepared"
    shape = (2, pairs, loss.outputs(data.preprocessing.info))
    spread = 10 ** (3 * torch.rand(2, pairs, 1, generator=generator, dtype=torch.float64) - 1)
    first, second = torch.randn(shape, generator=generator, dtype=torch.float64) * spread
    values: list[Tensor] = [loss(scores, target[rows]) for scores in (first, second, (first + second) / 2)]
    mean = (values[0] + values[1]) / 2
    return bool((values[2] <= mean + 1e-9 * (1 + mean.abs())).all())
