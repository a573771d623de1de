"""Penalized linear models of smooth losses, against scikit-learn's logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from torchplug.batch import Rows
from torchplug.components.builtin.losses import BCE, CrossEntropy
from torchplug.objective.linear_model import penalized_linear_model


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_it_is_scikit_learns_logistic_regression(load, weighted):
    x, y = load(return_X_y=True)
    x, classes, rows = StandardScaler().fit_transform(x), len(np.unique(y)), len(y)
    weight = np.random.default_rng(0).uniform(0.1, 3.0, size=rows) if weighted else np.ones(rows)
    weight = weight / weight.mean()
    expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(x, y, sample_weight=weight)
    target = torch.from_numpy(y) if classes > 2 else torch.from_numpy(y).double()[:, None]
    loss, outputs = (CrossEntropy(), classes) if classes > 2 else (BCE(), 1)
    features = torch.from_numpy(x)
    found = penalized_linear_model(
        Rows(features, target, torch.from_numpy(weight)), loss.double(), outputs, 1 / (2 * rows)
    )
    scores = found(features)
    probability = scores.softmax(dim=1) if classes > 2 else scores.sigmoid()
    known = expected.predict_proba(x) if classes > 2 else expected.predict_proba(x)[:, 1:]
    np.testing.assert_allclose(probability.numpy(), known, atol=2e-4)
    np.testing.assert_allclose(found.weight.numpy(), expected.coef_, atol=2e-3)
