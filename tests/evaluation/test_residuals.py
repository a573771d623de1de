"""Half-widths of conformal intervals, beside the definition in NumPy."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplug.errors import ConfigurationError
from torchplug.evaluation.residuals import Residuals


def by_definition(errors, level):
    """The ⌈(m + 1)·level⌉-th smallest absolute error of each column, with exact arithmetic."""
    rank = math.ceil(Fraction(str(level)) * (len(errors) + 1))
    return np.sort(np.abs(errors), axis=0)[rank - 1]


@given(m=st.integers(2, 60), k=st.integers(1, 3), seed=st.integers(0, 99), percent=st.integers(1, 99))
@settings(max_examples=60, deadline=None)
def test_all_levels_of_few_rows(m, k, seed, percent):
    errors, level = np.random.default_rng(seed).normal(size=(m, k)), percent / 100
    residuals = Residuals.of(torch.tensor(errors))
    if m < level / (1 - level) - 1e-9:
        with pytest.raises(ConfigurationError, match=f"needs at least .* validation rows, and there were {m}"):
            residuals.half_widths(level)
    else:
        np.testing.assert_array_equal(residuals.half_widths(level), by_definition(errors, level))


@pytest.mark.parametrize("m", [2001, 9999, 12_345, 100_000])
def test_of_many_rows_the_usual_levels_are_exact_and_others_wider(m):
    errors = np.random.default_rng(m).standard_t(3, size=(m, 2))
    residuals = Residuals.of(torch.tensor(errors))
    assert len(residuals.ranks) < 1100
    for level in (0.001, 0.5, 0.68, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, *((0.9999,) if m >= 9999 else ())):
        np.testing.assert_array_equal(residuals.half_widths(level), by_definition(errors, level))
    between, above = residuals.half_widths(0.9003).numpy(), by_definition(errors, 0.901)
    np.testing.assert_array_equal(between, above)
    assert (between >= by_definition(errors, 0.9003)).all()


def test_a_level_is_the_decimal_number_that_was_written():
    """In binary, 0.07 · 100 is above 7."""
    errors = torch.arange(1.0, 100.0).unsqueeze(1)
    assert Residuals.of(errors).half_widths(0.07).item() == 7.0
    assert Residuals.of(errors).half_widths(np.float32(0.5).item()).item() == 50.0


def test_predictions_that_are_not_finite_widen_intervals():
    errors = torch.tensor([[1.0], [math.nan], [2.0], [-math.inf]])
    residuals = Residuals.of(errors)
    assert residuals.half_widths(0.4).item() == 2.0
    assert residuals.half_widths(0.8).item() == math.inf
    assert Residuals.from_state(residuals.state()).half_widths(0.8).item() == math.inf


@pytest.mark.parametrize("level", [0, 1, -0.1, 1.5, math.nan, 90, True, "0.9"])
def test_levels_that_are_refused(level):
    with pytest.raises(ConfigurationError, match=r"between 0 and 1, such as 0\.9, not"):
        Residuals.of(torch.ones(5, 1)).half_widths(level)


def test_too_few_rows_are_refused_with_both_remedies():
    with pytest.raises(ConfigurationError, match=r"at least 19 .* there were 5: ask for at most 0\.833, or validate"):
        Residuals.of(torch.ones(5, 1)).half_widths(0.95)


def test_state_round_trip_and_damage():
    residuals = Residuals.of(torch.tensor([[3.0, 1.0], [1.0, 2.0], [2.0, 5.0]]))
    state = residuals.state()
    np.testing.assert_array_equal(Residuals.from_state(state).values, [[1, 1], [2, 2], [3, 5]])
    for damage in (
        {"values": state["values"].flip(0)},
        {"values": -state["values"]},
        {"values": state["values"][:2]},
        {"values": state["values"].float()},
        {"ranks": torch.tensor([1, 1, 3])},
        {"rows": 7},
    ):
        with pytest.raises(ValueError, match="not sorted"):
            Residuals.from_state({**state, **damage})
