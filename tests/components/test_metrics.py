"""Metrics against scikit-learn, over any cut into batches."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from torchmetrics import R2Score
from torchmetrics.functional import classification as functional

import third_party
from torchplug import ComponentModule, Family, use
from torchplug.components.builtin.metrics import r2
from torchplug.components.metrics import Evaluation, MetricChoice
from torchplug.components.task import TASKS
from torchplug.errors import ConfigurationError, ParameterError, PluginError, UnknownComponentError
from torchplug.registry import registry


def evaluation_of(kind, columns, *chosen, **settings):
    """An evaluation with the metrics of a kind, and others by name."""
    found = [registry().resolve(Family.METRIC, metric) for metric in chosen]
    return Evaluation(MetricChoice(TASKS[kind], found), columns, **settings)


@pytest.fixture
def acme(distributions):
    """A third party's metrics."""
    third_party.install(distributions)


def run(evaluation, losses, predictions, target, cuts=()):
    """Feed the rows in batches cut at `cuts`, an empty one included."""
    bounds = [0, *sorted(cuts), len(target)]
    for lower, upper in itertools.pairwise(bounds):
        evaluation.update(losses[lower:upper], predictions[lower:upper], target[lower:upper])
    return evaluation.compute()


@given(n=st.integers(3, 40), k=st.integers(1, 3), seed=st.integers(0, 999), offset=st.sampled_from([0.0, 1e6]))
@settings(max_examples=30, deadline=None)
def test_regression_equals_scikit_learn(n, k, seed, offset):
    rng = np.random.default_rng(seed)
    y, z = rng.normal(size=(n, k)) + offset, rng.normal(size=(n, k)) + offset
    evaluation = evaluation_of("regression", k, location=torch.tensor(y.mean(0)), spread=torch.tensor(y.std(0)))
    got = run(evaluation, torch.ones(n), torch.tensor(z), torch.tensor(y), cuts=(1, 1, n // 2))
    assert got["rmse"] == pytest.approx(math.sqrt(reference.mean_squared_error(y.ravel(), z.ravel())), rel=1e-9)
    assert got["mae"] == pytest.approx(reference.mean_absolute_error(y, z), rel=1e-9)
    assert got["r2"] == pytest.approx(reference.r2_score(y, z), rel=1e-8, abs=1e-8)
    assert got["loss"] == 1.0


@given(n=st.integers(2, 40), k=st.integers(1, 3), seed=st.integers(0, 999), size=st.sampled_from([1e-6, 1e-2, 1.0]))
@settings(max_examples=40, deadline=None)
def test_r2_equals_torchmetrics_also_for_constant_and_perfectly_predicted_columns(n, k, seed, size):
    rng = np.random.default_rng(seed)
    y = torch.tensor(rng.normal(size=(n, k)) * rng.choice([0.0, size], k))
    z = y + torch.tensor(rng.normal(size=(n, k)) * rng.choice([0.0, size], k))
    z[0, 0] += rng.choice([0.0, math.nan], p=[0.9, 0.1])
    ours, theirs = r2().set_dtype(torch.float64), R2Score().set_dtype(torch.float64)
    for metric in (ours, theirs):
        metric.update(z, y)
    assert ours.compute().item() == pytest.approx(theirs.compute().item(), rel=1e-12, nan_ok=True)


@given(n=st.integers(4, 60), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_binary_equals_scikit_learn(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    y[:2] = [0, 1]
    p = rng.random(n)
    got = run(
        evaluation_of("binary", 1), torch.ones(n), torch.tensor(p)[:, None], torch.tensor(y)[:, None], cuts=(1, 3)
    )
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(y, p > 0.5), abs=1e-12)
    assert got["auroc"] == pytest.approx(reference.roc_auc_score(y, p), abs=1e-6)
    assert got["average_precision"] == pytest.approx(reference.average_precision_score(y, p), abs=1e-6)
    assert got["brier"] == pytest.approx(reference.brier_score_loss(y, p), rel=1e-12)


@given(n=st.integers(6, 60), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_multiclass_equals_scikit_learn(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    p = rng.dirichlet([1, 1, 1], n)
    got = run(evaluation_of("multiclass", 3), torch.ones(n), torch.tensor(p), torch.tensor(y), cuts=(2, 5))
    present = np.union1d(y, p.argmax(1))
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(y, p.argmax(1)), abs=1e-6)
    assert got["macro_f1"] == pytest.approx(
        reference.f1_score(y, p.argmax(1), average="macro", labels=present, zero_division=0), abs=1e-6
    )
    assert got["log_loss"] == pytest.approx(reference.log_loss(y, p, labels=[0, 1, 2]), rel=1e-9)


@given(n=st.integers(2, 200), c=st.sampled_from([1, 2, 5]), bins=st.integers(1, 20), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_calibration_error_equals_torchmetrics_and_its_definition(n, c, bins, seed):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, max(c, 2), n), rng.dirichlet([0.5] * max(c, 2), n)
    kind, seen = ("binary", p[:, 1:]) if c == 1 else ("multiclass", p)
    evaluation = evaluation_of(kind, c, use("calibration_error", bins=bins))
    target = torch.tensor(y)[:, None].double() if c == 1 else torch.tensor(y)
    got = run(evaluation, torch.ones(n), torch.tensor(seen), target, cuts=(1, n // 2))["calibration_error"]
    if c == 1:
        confidence, hit = p[:, 1], y == 1
        theirs = functional.binary_calibration_error(torch.tensor(p[:, 1]), torch.tensor(y), n_bins=bins)
    else:
        confidence, hit = p.max(axis=1), p.argmax(axis=1) == y
        theirs = functional.multiclass_calibration_error(torch.tensor(p), torch.tensor(y), c, n_bins=bins)
    assert got == pytest.approx(theirs.item(), abs=1e-6)
    place = np.minimum(np.floor(confidence * bins), bins - 1)
    parts = [(place == b) for b in range(bins) if (place == b).any()]
    expected = sum(abs(confidence[rows].mean() - hit[rows].mean()) * rows.mean() for rows in parts)
    assert got == pytest.approx(expected, abs=1e-12)


def test_the_probability_1_is_in_the_last_bin():
    p, y = torch.tensor([[1.0], [0.99], [0.0]]).double(), torch.tensor([[1.0], [0.0], [0.0]]).double()
    got = run(evaluation_of("binary", 1, "calibration_error"), torch.ones(3), p, y)["calibration_error"]
    assert got == pytest.approx(abs(1.99 / 2 - 0.5) * 2 / 3)


def test_margin_ranks_by_score_whatever_the_batch():
    y, score = np.array([0, 1, 0, 1, 1]), np.array([0.2, 0.4, -3.0, 5.0, 0.1])
    got = run(
        evaluation_of("margin", 1), torch.ones(5), torch.tensor(score)[:, None], torch.tensor(y)[:, None], cuts=(2,)
    )
    assert got["auroc"] == pytest.approx(reference.roc_auc_score(y, score))
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(y, score > 0))


def test_loss_is_accumulated_in_float64():
    losses = torch.full((1000,), 0.1, dtype=torch.float32)
    losses[0] = 1e7
    got = run(evaluation_of("regression", 1), losses, torch.zeros(1000, 1), torch.zeros(1000, 1), cuts=range(1, 1000))
    assert got["loss"] == losses.double().mean().item()


@pytest.mark.parametrize(("kind", "undefined"), [("regression", {"r2"}), ("binary", {"auroc", "average_precision"})])
def test_one_target_value_leaves_some_metrics_undefined(kind, undefined):
    got = run(evaluation_of(kind, 1), torch.ones(4), torch.rand(4, 1, dtype=torch.float64), torch.ones(4, 1))
    assert {name for name, value in got.items() if math.isnan(value)} == undefined


def test_soft_targets_have_no_metric_that_needs_labels():
    evaluation = evaluation_of("binary", 1, labelled=False)
    assert evaluation.names == ["loss", "brier"]
    got = run(evaluation, torch.ones(2), torch.tensor([[0.5], [0.25]]).double(), torch.tensor([[0.5], [0.5]]))
    assert got["brier"] == 0.03125


def test_soft_classes_have_log_loss_alone():
    p, y = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).double(), torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    got = run(evaluation_of("multiclass", 2, labelled=False), torch.ones(2), p, y)
    assert got["log_loss"] == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert set(got) == {"loss", "log_loss"}


def test_reset_forgets():
    evaluation = evaluation_of("regression", 1)
    run(evaluation, torch.ones(2), torch.zeros(2, 1), torch.ones(2, 1))
    evaluation.reset()
    assert run(evaluation, torch.ones(2), torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]))["mae"] == 2.0


@pytest.mark.parametrize("kind", TASKS)
def test_empty_batches_change_nothing(kind):
    k = 3 if kind == "multiclass" else 1
    y = torch.tensor([0, 1, 2]) if kind == "multiclass" else torch.tensor([[0.0], [1.0], [1.0]])
    p = (
        torch.softmax(torch.arange(9.0).reshape(3, 3), 1).double()
        if k == 3
        else torch.tensor([[0.1], [0.9], [0.2]]).double()
    )
    assert run(evaluation_of(kind, k), torch.ones(3), p, y) == run(
        evaluation_of(kind, k), torch.ones(3), p, y, cuts=(0, 3)
    )


@pytest.mark.usefixtures("acme")
class TestThirdPartyMetrics:
    def test_torchmetrics_classes_are_metrics_as_they_are(self):
        rng = np.random.default_rng(0)
        y, p = rng.integers(0, 3, 40), rng.dirichlet([1, 1, 1], 40)
        evaluation = evaluation_of("multiclass", 3, "macro_auc")
        got = run(evaluation, torch.ones(40), torch.tensor(p), torch.tensor(y), cuts=(7, 7, 20))
        assert evaluation.names == ["loss", "accuracy", "macro_f1", "log_loss", "macro_auc"]
        assert got["macro_auc"] == pytest.approx(reference.roc_auc_score(y, p, multi_class="ovr"), abs=1e-6)

    def test_parameters_are_passed(self):
        p, y = torch.tensor([[0.9], [0.8], [0.3], [0.1]]).double(), torch.tensor([[1.0], [0.0], [1.0], [0.0]])
        for beta in (0.5, 2.0):
            got = run(evaluation_of("binary", 1, use("acme:fbeta", beta=beta)), torch.ones(4), p, y)
            assert got["fbeta"] == pytest.approx(reference.fbeta_score(y[:, 0], p[:, 0] > 0.5, beta=beta), abs=1e-6)

    def test_numbers_are_seen_in_their_units(self):
        y, z = torch.tensor([[1e6], [2e6]]).double(), torch.tensor([[1e6 + 3], [2e6 - 5]]).double()
        location = {"location": torch.tensor([1e6]).double(), "spread": torch.tensor([10.0]).double()}
        assert run(evaluation_of("regression", 1, "largest", **location), torch.ones(2), z, y)["largest"] == 5.0

    def test_one_that_the_task_has_takes_its_place(self):
        evaluation = evaluation_of("binary", 1, "brier", "share")
        assert evaluation.names == ["loss", "accuracy", "auroc", "average_precision", "brier", "share"]

    def test_of_several_numbers_the_mean_counts(self):
        y, p = torch.tensor([0, 1, 2, 1]), torch.eye(3).double()[[0, 1, 2, 0]]
        by_class = evaluation_of("multiclass", 3, use("macro_auc", average="none"))
        macro = evaluation_of("multiclass", 3, "macro_auc")
        assert run(by_class, torch.ones(4), p, y)["macro_auc"] == run(macro, torch.ones(4), p, y)["macro_auc"]

    @pytest.mark.parametrize(
        ("loss", "metrics", "error", "message"),
        [
            (
                "mse",
                ["macro_auc"],
                ConfigurationError,
                "macro_auc goes with losses for multiclass, and this",
            ),
            ("mse", ["accuracy"], ConfigurationError, "choose among largest, mae, r2, rmse"),
            ("mse", ["mae", "torchplug:mae"], ConfigurationError, "names mae twice"),
            ("mse", [use("largest", scale=-1)], ParameterError, "scale must be positive, got -1"),
            ("mse", [use("largest", skale=1)], ParameterError, "unknown parameter 'skale', did you mean scale"),
            ("mse", ["xyzzy"], UnknownComponentError, "metrics are accuracy, .*, rmse, fbeta, largest, macro_auc"),
            ("mse", ["wrong"], PluginError, "acme:wrong must give a torchmetrics.Metric"),
            ("mse", ["unfit"], PluginError, "acme:unfit is of labels, which losses of kind regression do not give"),
            ("hinge", ["brier"], ConfigurationError, "brier goes with losses for binary, and this loss is for margin"),
        ],
    )
    def test_what_cannot_be_computed_is_refused(self, loss, metrics, error, message):
        with pytest.raises(error, match=message):
            ComponentModule("linear", loss, metrics=metrics)

    def test_no_number_is_the_plugins_fault(self):
        with pytest.raises(PluginError, match="metric words gives str, and not a number"):
            run(evaluation_of("regression", 1, "words"), torch.ones(1), torch.zeros(1, 1).double(), torch.ones(1, 1))


@pytest.mark.parametrize(
    ("monitor", "mode", "objection"),
    [
        ("val/auroc", "min", "whose highest value is the best: set its mode to max"),
        ("val/brier", "max", "whose lowest value is the best: set its mode to min"),
        ("train/epoch_loss", "max", "set its mode to min"),
        ("val/auroc", "max", None),
        ("val/loss", "min", None),
        ("val/auroc", None, None),
        ("lr-Adam", "max", None),
    ],
)
def test_a_mode_against_the_direction_is_objected_to(monitor, mode, objection):
    found = MetricChoice(TASKS["binary"], []).objection(monitor, mode)
    assert found is None if objection is None else objection in found
