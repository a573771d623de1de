"""Gradient engines: how the gradient of one optimizer step is computed.

An engine has two entrances. `carried` serves a step that Lightning makes: it gives a value whose backward pass leads
to the gradient. `gradient` serves a step without Lightning: it leaves the gradient in the parameters' `grad`.
Some engines also make whole steps, several at a time.
"""

from torchplug.engine.analytic import UNROUNDED
from torchplug.engine.choice import ENGINES, Engine, check_analytic, choose
from torchplug.engine.contract import FusedSteps, GradientEngine
from torchplug.engine.precomputed import with_precomputed_grad

__all__ = [
    "ENGINES",
    "UNROUNDED",
    "Engine",
    "FusedSteps",
    "GradientEngine",
    "check_analytic",
    "choose",
    "with_precomputed_grad",
]
