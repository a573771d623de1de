"""Gradient engines: how the gradient of one optimizer step is computed.

An engine has two methods. `with_precomputed_grad` is for a step that Lightning makes: it returns a value whose backward
pass gives the gradient. `gradient` is for a step without Lightning: it writes the gradient to `grad` of the parameters.
Some engines also compute several whole steps at once.
"""

from torchplug.engine.analytic import FULL_PRECISION
from torchplug.engine.choice import ENGINES, Engine, check_analytic, choose
from torchplug.engine.contract import FusedSteps, GradientEngine
from torchplug.engine.precomputed import with_precomputed_grad

__all__ = [
    "ENGINES",
    "FULL_PRECISION",
    "Engine",
    "FusedSteps",
    "GradientEngine",
    "check_analytic",
    "choose",
    "with_precomputed_grad",
]
