"""Gradient engines: how the gradient of one optimizer step is computed.

An engine has two entrances. `carried` serves a step that Lightning makes: it gives a value whose backward pass leads
to the gradient. `gradient` serves a step without Lightning: it leaves the gradient in the parameters' `grad`.
Some engines also make whole steps, several at a time.
"""

from torchplug.engine.by_hand import UNROUNDED
from torchplug.engine.carried import carried
from torchplug.engine.choice import ENGINES, Engine, check_chain, choose
from torchplug.engine.contract import GradientEngine, WholeSteps

__all__ = ["ENGINES", "UNROUNDED", "Engine", "GradientEngine", "WholeSteps", "carried", "check_chain", "choose"]
