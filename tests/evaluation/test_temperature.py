"""Temperature scaling, beside SciPy's minimizer, scikit-learn's log loss and torchmetrics' calibration error."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logsumexp, softmax
from sklearn.metrics import log_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from torchplug import use
from torchplug.components.task import TASKS
from torchplug.evaluation.temperature import Temperature, takes_temperature
from torchplug.registry import registry
from torchplug.registry.component import Family


def minimal(scores, shares, weight):
    """T by SciPy: scores and probabilities of the target (m, c), of which a sure one becomes (m + 1)/(m + 2)."""
    m, c = shares.shape
    most = (m + 1) / (m + 2)
    shares = most * shares + (1 - most) / (c - 1) * (1 - shares)

    def loss(logarithm):
        z = scores * np.exp(-logarithm)
        return np.average(logsumexp(z, axis=1) - (shares * z).sum(1), weights=weight)

    return np.exp(minimize_scalar(loss, bounds=(-8, 8), method="bounded", options={"xatol": 1e-12}).x)


def drawn(m, c, seed, certainty):
    """Scores that are too certain or not certain enough, classes drawn by softmax(scores / certainty), weights."""
    rng = np.random.default_rng(seed)
    scores = certainty * rng.normal(size=(m, c))
    y = np.array([rng.choice(c, p=row) for row in softmax(scores / certainty, axis=1)])
    return scores, y, rng.uniform(0.2, 3.0, size=m)


@given(c=st.integers(2, 5), seed=st.integers(0, 99), certainty=st.sampled_from([0.05, 0.5, 1.0, 3.0, 40.0]))
@settings(max_examples=40, deadline=None)
def test_multiclass_equals_scipy(c, seed, certainty):
    scores, y, weight = drawn(200, c, seed, certainty)
    found = Temperature.of(torch.tensor(scores), torch.tensor(y), torch.tensor(weight))
    assert found.found
    assert found.value == pytest.approx(minimal(scores, np.eye(c)[y], weight), rel=1e-5)
    for place, T in enumerate((1.0, found.value)):
        probabilities = softmax(scores / T, axis=1)
        expected = np.average(-log_softmax(scores / T, axis=1)[range(200), y], weights=weight)  # scikit-learn clips
        assert found.log_loss[place] == pytest.approx(expected, rel=1e-9)
        error = multiclass_calibration_error(torch.tensor(probabilities), torch.tensor(y), c, n_bins=15)
        assert found.calibration_error[place] == pytest.approx(error.item(), abs=1e-6)


@given(seed=st.integers(0, 99), certainty=st.sampled_from([0.05, 0.5, 1.0, 3.0, 40.0]))
@settings(max_examples=40, deadline=None)
def test_one_score_of_two_classes_equals_scipy(seed, certainty):
    rng = np.random.default_rng(seed)
    z = certainty * rng.normal(size=300)
    y, weight = (rng.random(300) < expit(z / certainty)).astype(float), rng.uniform(0.2, 3.0, size=300)
    found = Temperature.of(*(torch.tensor(v) for v in (z[:, None], y[:, None], weight)))
    both = np.stack([np.zeros(300), z], axis=1)
    assert found.value == pytest.approx(minimal(both, np.eye(2)[y.astype(int)], weight), rel=1e-5)
    assert found.log_loss[1] == pytest.approx(log_loss(y, expit(z / found.value), sample_weight=weight), rel=1e-9)
    error = binary_calibration_error(torch.tensor(expit(z)), torch.tensor(y).long(), n_bins=15)
    assert found.calibration_error[0] == pytest.approx(error.item(), abs=1e-6)


def test_the_derivative_is_zero():
    """To float64's precision, which a minimizer that compares values does not reach."""
    scores, y, weight = drawn(500, 4, 1, 5.0)
    T = Temperature.of(torch.tensor(scores), torch.tensor(y), torch.tensor(weight)).value
    shares = softmax(scores / T, axis=1)
    targets = np.where(np.eye(4)[y] == 1, 501 / 502, 1 / 502 / 3)
    slope = np.average(((shares - targets) * scores).sum(1), weights=weight)
    assert abs(slope) < 1e-13 * np.abs(scores).max()


def test_targets_of_probabilities():
    rng = np.random.default_rng(0)
    scores, shares = 3 * rng.normal(size=(100, 3)), rng.dirichlet([2, 2, 2], 100)
    found = Temperature.of(torch.tensor(scores), torch.tensor(shares), torch.ones(100))
    bounded = minimal(scores, shares, np.ones(100)) if found.found else 1.0
    assert found.value == pytest.approx(bounded, rel=1e-5)
    assert found.calibration_error is None
    z, p = rng.normal(size=(100, 1)), np.full((100, 1), 0.3)
    p[z > 0] = 0.6
    both = np.concatenate([np.zeros_like(z), z], axis=1)
    found = Temperature.of(torch.tensor(z), torch.tensor(p), torch.ones(100))
    assert found.value == pytest.approx(minimal(both, np.concatenate([1 - p, p], axis=1), np.ones(100)), rel=1e-5)


@pytest.mark.parametrize(
    ("scores", "target"),
    [
        ([[3.0], [-1.0], [2.0]], [[0.0], [1.0], [0.0]]),  # reversed: the warmer the better
        ([[0.0], [0.0]], [[1.0], [0.0]]),  # equal: nothing to scale
        ([[2.0, 1.0, 0.0], [0.0, 5.0, 1.0]], [2, 0]),
    ],
)
def test_without_a_minimum_probabilities_stay(scores, target):
    found = Temperature.of(torch.tensor(scores), torch.tensor(target), torch.ones(len(target)))
    assert (found.value, found.found) == (1.0, False)
    assert found.log_loss[0] == found.log_loss[1]


@pytest.mark.parametrize("m", [1, 3, 100])
def test_rows_that_are_all_right_make_the_model_as_sure_as_they_bear_out(m):
    """By the rule of succession: m of m right, so (m + 1)/(m + 2)."""
    found = Temperature.of(torch.full((m, 1), 3.0), torch.ones(m, 1), torch.ones(m))
    assert found.found
    assert expit(3.0 / found.value) == pytest.approx((m + 1) / (m + 2))
    scores = torch.tensor([[2.0, 0.0, 0.0]]).repeat(m, 1)
    found = Temperature.of(scores, torch.zeros(m, dtype=torch.long), torch.ones(m))
    assert softmax([2.0 / found.value, 0, 0])[0] == pytest.approx((m + 1) / (m + 2))


@pytest.mark.parametrize(("loss", "takes"), [("bce", True), ("cross_entropy", True), ("mse", False), ("hinge", False)])
def test_which_losses_take_a_temperature(loss, takes):
    assert takes_temperature(registry().resolve(Family.LOSS, use(loss)).build()) is takes


def test_a_link_of_its_own_takes_none():
    own = type("Own", (type(registry().resolve(Family.LOSS, "bce").build()),), {"link": lambda self, scores: scores})
    assert TASKS["binary"].probabilities is not None
    assert not takes_temperature(own())


def test_state_round_trip_and_damage():
    found = Temperature.of(torch.tensor([[1.0], [2.0], [-1.0], [0.5]]), torch.tensor([[1.0], [0.0], [0.0], [1.0]]),
                           torch.ones(4))  # fmt: skip
    assert Temperature.from_state(found.state()) == found
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature is"):
            Temperature.from_state({**found.state(), "value": value})
