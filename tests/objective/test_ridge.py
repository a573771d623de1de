"""Ridge regression by leaving out rows, against scikit-learn and against refitting."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV

from torchplug.objective.ridge import STRENGTHS, ridge


def table(rows, features, outputs=1, weighted=False):
    generator = np.random.default_rng(rows + features)
    x = generator.normal(size=(rows, features)) + generator.normal(size=features)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    slopes = generator.normal(size=(features, outputs)) * (np.arange(features) < 4)[:, None]
    y = 3.0 + x @ slopes + generator.normal(size=(rows, outputs))
    weight = generator.uniform(0.2, 2.0, size=rows) if weighted else np.ones(rows)
    return x, y, weight / weight.mean()


def fit(x, y, weight, size=1000):
    blocks = zip(*(torch.split(torch.from_numpy(part), size) for part in (x, y, weight)), strict=True)
    kept = list(blocks)
    return ridge(lambda: kept, len(x), x.shape[1], y.shape[1])


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(("rows", "features"), [(80, 12), (40, 39), (30, 60), (12, 12)])
def test_it_is_scikit_learns_ridge_cv(rows, features, outputs):
    x, y, weight = table(rows, features, outputs)
    found = fit(x, y, weight)
    expected = RidgeCV(alphas=np.array(STRENGTHS) * rows).fit(x, y)
    assert found.coefficient * rows == pytest.approx(expected.alpha_)
    np.testing.assert_allclose(found.weight.numpy().reshape(-1), expected.coef_.reshape(-1), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.bias.numpy(), np.ravel(expected.intercept_), rtol=1e-8)
    np.testing.assert_allclose(found(torch.from_numpy(x)).numpy(), expected.predict(x).reshape(rows, -1), rtol=1e-8)


@pytest.mark.parametrize(("rows", "features"), [(60, 7), (20, 30)])
def test_weighted_rows_are_left_out_as_if_fitted_without_them(rows, features):
    x, y, weight = table(rows, features, weighted=True)
    found = fit(x, y, weight)
    unit = np.average((x - np.average(x, axis=0, weights=weight)) ** 2, axis=0, weights=weight).mean()
    strengths, errors = np.array(STRENGTHS) * unit, []
    for strength in strengths:
        error = 0.0
        for row in range(rows):
            rest = np.arange(rows) != row
            own = weight[rest] / weight[rest].mean()
            model = Ridge(alpha=strength * (rows - 1)).fit(x[rest], y[rest], sample_weight=own)
            error += weight[row] * float(np.square(model.predict(x[[row]]) - y[row]).sum())
        errors.append(error)
    assert found.coefficient == pytest.approx(strengths[int(np.argmin(errors))])
    expected = Ridge(alpha=found.coefficient * rows).fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(found.weight.numpy().reshape(-1), expected.coef_.reshape(-1), rtol=1e-8)


def test_blocks_change_nothing_but_rounding():
    x, y, weight = table(50, 6, weighted=True)
    whole, parts = fit(x, y, weight), fit(x, y, weight, size=7)
    assert parts.coefficient == pytest.approx(whole.coefficient)
    torch.testing.assert_close(parts.weight, whole.weight)


@pytest.mark.parametrize("features", [3, 30])
def test_features_that_say_nothing_leave_the_mean(features):
    x, (y, weight) = np.full((20, features), 2.0), table(20, 2)[1:]
    found = fit(x, y, weight)
    assert found.weight.abs().max() == 0.0
    np.testing.assert_allclose(found.bias.numpy(), y.mean(axis=0))


def test_equal_columns_share_their_slope():
    x, y, weight = table(40, 3)
    found = fit(np.column_stack([x, x[:, 0]]), y, weight)
    torch.testing.assert_close(found.weight[0, 0], found.weight[0, 3])
