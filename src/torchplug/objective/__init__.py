"""The training objective F = (1/n) Σ wᵢ ℓᵢ + Σ λR: on a minibatch, and on the whole training set."""

from torchplug.objective.deterministic_eval import deterministic_eval
from torchplug.objective.full_batch import Objective
from torchplug.objective.penalties import penalized, total_penalty
from torchplug.objective.step import Reduction, StepObjective, check_shapes

__all__ = [
    "Objective",
    "Reduction",
    "StepObjective",
    "check_shapes",
    "deterministic_eval",
    "penalized",
    "total_penalty",
]
