"""Fast dropout: the moments of its masks, and when it draws none."""

import numpy as np
import pytest
import torch

from torchplug_tabular.dropout import Dropout


def dropped(p, shape=(1000, 1000), dtype=torch.float64):
    """Ones after dropout in training."""
    return Dropout(p)(torch.ones(shape, dtype=dtype))


@pytest.mark.parametrize("p", [0.001, 0.15, 0.5, 0.9])
def test_masks_have_the_moments_of_independent_draws(p):
    """Within five standard errors: of a mean of 10⁶ numbers 0 or 1/(1 − p), and of products of neighbours."""
    torch.manual_seed(1)
    mask = dropped(p).numpy()
    values = np.unique(mask)
    assert values[0] == 0.0
    np.testing.assert_allclose(values[1:], [1.0 / (1.0 - p)], rtol=2.0**-16 / (1.0 - p))
    variance = p / (1.0 - p)
    error = np.sqrt(variance / mask.size)
    assert abs(mask.mean() - 1.0) < 5.0 * error
    # a mask of mean m has the variance m/(1 − p) − m²
    assert abs(mask.var() - variance) < 5.0 * error * (1.0 / (1.0 - p) + 2.0)
    for axis in (0, 1):
        first, second = (np.take(mask, range(start, 1000, 2), axis) - 1.0 for start in (0, 1))
        assert abs((first * second).mean()) < 5.0 * variance / np.sqrt(first.size)


def test_a_rounded_rate_keeps_the_expectation():
    """p = 2⁻¹⁷ + 2⁻¹⁸ is rounded to 2⁻¹⁶, of which the kept are divided, too."""
    values = torch.unique(dropped(2.0**-17 + 2.0**-18))
    assert values.tolist() == [0.0, 65536 / 65535]


def test_a_rate_next_to_one_drops_all_but_some():
    assert 0 < int(dropped(1.0 - 1e-9).count_nonzero()) < 100


@pytest.mark.parametrize("shape", [(0, 3), (1,), (7, 3), (2, 5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_and_dtype_are_kept(shape, dtype):
    found = dropped(0.5, shape, dtype)
    assert (found.shape, found.dtype) == (shape, dtype)
    assert set(found.flatten().tolist()) <= {0.0, 2.0}


def test_a_view_with_other_strides_is_dropped_element_by_element():
    units = torch.arange(1.0, 13.0).view(3, 4).t()
    found = Dropout(0.5)(units)
    kept = found != 0
    torch.testing.assert_close(found[kept], 2.0 * units[kept])


def test_gradients_are_those_of_the_kept_units():
    units = torch.ones(50, 20, requires_grad=True)
    found = Dropout(0.3)(units)
    found.sum().backward()
    assert torch.equal(units.grad, found)


def test_draws_are_those_of_the_default_generator():
    torch.manual_seed(2)
    first, state = dropped(0.5), torch.get_rng_state()
    second = dropped(0.5)
    torch.manual_seed(2)
    assert torch.equal(dropped(0.5), first)
    torch.set_rng_state(state)
    assert torch.equal(dropped(0.5), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("layer", [Dropout(0.5).eval(), Dropout(0.0)], ids=["evaluation", "rate 0"])
def test_without_dropout_it_is_the_identity_and_draws_nothing(layer):
    units, state = torch.randn(5, 3), torch.get_rng_state()
    assert torch.equal(layer(units), units)
    assert torch.equal(torch.get_rng_state(), state)
