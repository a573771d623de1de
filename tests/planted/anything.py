"""Faults that any component may have, here in losses."""

import threading

import torch

from planted.record import planted
from torchplug import Family, Loss

LOSS = Family.LOSS


class Squared(Loss):
    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).square().sum(1)


@planted(LOSS, "listing_imports_no_torch", "imports torch, so that every command waits for it")
class Slow(Squared):
    pass


@planted(
    LOSS,
    "importing_changes_no_global_state",
    "importing planted.importing changes Python's random generator, which the whole process shares",
    target="planted.importing:Seeding",
)
class Unseeded(Squared):
    pass


@planted(LOSS, "target_is_importable", "cannot be imported", target="planted.anything:Missing")
class Present(Squared):
    pass


@planted(LOSS, "summary_fits_a_table", "has 100 characters", summary="s" * 100)
class Wordy(Squared):
    pass


@planted(LOSS, "docstring_has_formula", "has no formula")
class Formless(Squared):
    """Squared error."""


@planted(LOSS, "docstring_has_parameters", "Args lacks power")
class Unexplained(Squared):
    """Power of the error.

        Σ eᵖ

    Args:
        p: another.
    """

    def __init__(self, power: int = 2):
        super().__init__()


@planted(LOSS, "docstring_has_ranges", "range or unit of delta")
class Boundless(Squared):
    """Huber's.

    Args:
        delta: where the tails begin.
    """

    def __init__(self, delta: float = 2.0):
        super().__init__()


@planted(LOSS, "docstring_has_shapes", "no section Shape")
class Shapeless(Squared):
    """Squared error.

    Reference: Gauss (1809).
    """


@planted(LOSS, "docstring_has_refusals", "no section Raises, and delta cannot take every value")
class Unrefusing(Squared):
    """Huber's.

    Args:
        delta: > 0.
    """

    def __init__(self, delta: float = 2.0):
        super().__init__()


@planted(LOSS, "docstring_has_reference", "names no source")
class Sourceless(Squared):
    """Squared error.

    Shape:
        scores (n, k), target (n, k) → (n,).
    """


@planted(LOSS, "docstring_fits_a_page", "has 150 characters")
class Endless(Squared):
    pass


Endless.__doc__ = "w" * 150


@planted(LOSS, "defaults_have_declared_types", "power is annotated as int, and its default 2.5 is none")
class Mistyped(Squared):
    def __init__(self, power: int = 2.5):
        super().__init__()


@planted(LOSS, "parameters_survive_a_checkpoint", "are read as")
class ByNumber(Squared):
    def __init__(self, table: dict = {0.5: 1.0}):  # noqa: B006
        super().__init__()


@planted(LOSS, "builds_from_its_defaults", "power must be even")
class Unbuildable(Squared):
    def __init__(self, power: int = 3):
        super().__init__()
        if power % 2:
            raise ValueError("power must be even")


@planted(LOSS, "building_is_silent", "prints 'hello")
class Talking(Squared):
    def __init__(self):
        super().__init__()
        print("hello")


@planted(LOSS, "building_changes_no_global_state", "building it changes torch's default dtype, which")
class Global(Squared):
    def __init__(self):
        super().__init__()
        torch.set_default_dtype(torch.bfloat16)


@planted(LOSS, "building_leaves_arguments_unchanged", "changes the default of knots")
class Collecting(Squared):
    def __init__(self, knots: list[float] = [1.0]):  # noqa: B006
        super().__init__()
        knots.append(2.0)


@planted(LOSS, "nan_is_refused", "NaN is accepted for delta")
class Trusting(Squared):
    def __init__(self, delta: float = 2.0):
        super().__init__()


@planted(LOSS, "deep_copy_is_the_same", "copy.deepcopy fails")
class Locked(Squared):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


@planted(LOSS, "pickle_is_the_same", "pickle fails")
class Anonymous(Squared):
    def __init__(self):
        super().__init__()
        self.power = lambda error: error.square()


@planted(LOSS, "trains_in_a_fit", "too many rows")
class Narrow(Squared):
    def forward(self, scores, target):
        if len(scores) > 10:
            raise RuntimeError("too many rows")
        return super().forward(scores, target)
