"""With proximal regularizers every optimizer reaches scikit-learn's solution, zeros included."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet as PeerElasticNet
from sklearn.linear_model import Lasso
from torch import nn

from torchplug.components.builtin.adaptive_optimizers import Adam, AdamW, RMSprop
from torchplug.components.builtin.optimizers import SGD, Momentum, Nesterov
from torchplug.components.builtin.regularizers import L1, ElasticNet

OPTIMIZERS = {
    "sgd": (SGD, {"lr": 0.15}, 2000),
    "momentum": (Momentum, {"lr": 0.05}, 1000),
    "nesterov": (Nesterov, {"lr": 0.05}, 1000),
    "rmsprop": (RMSprop, {"lr": 0.02}, 3000),
    "adam": (Adam, {"lr": 0.02}, 4000),
    "adamw": (AdamW, {"lr": 0.02, "weight_decay": 0.0}, 4000),
}


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(80, 8))
    features[:, 1] += 0.5 * features[:, 0]
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    target = features @ np.array([2.0, -1.0, 0.0, 0.0, 0.5, 0.0, 0.05, 0.0]) + generator.normal(size=80)
    return features, target - target.mean()


def train(name, penalty, data):
    """Full-batch minimization of the mean squared error plus the penalty, by proximal steps."""
    build, settings, steps = OPTIMIZERS[name]
    x, y = (torch.tensor(array) for array in data)
    theta = nn.Parameter(torch.zeros(x.shape[1], dtype=torch.float64))
    optimizer = build([theta], **settings)
    optimizer.prox = {theta: penalty.prox}
    for _ in range(steps):
        theta.grad = 2 / len(y) * (x.T @ (x @ theta.detach() - y))
        optimizer.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    return theta.detach().numpy()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_l1_reaches_the_lasso(name, data):
    strength = 0.3
    found = train(name, L1(strength, proximal=True), data)
    peer = Lasso(alpha=strength / 2, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(*data).coef_
    assert 0 < (peer == 0).sum() < len(peer)
    assert np.array_equal(found == 0, peer == 0)
    np.testing.assert_allclose(found, peer, atol=1e-10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_elastic_net_reaches_the_elastic_net(name, data):
    l1, l2 = 0.3, 0.2
    found = train(name, ElasticNet(l1, l2, proximal=True), data)
    alpha = l1 / 2 + l2
    peer = PeerElasticNet(alpha=alpha, l1_ratio=l1 / 2 / alpha, fit_intercept=False, tol=1e-14, max_iter=100_000)
    expected = peer.fit(*data).coef_
    assert np.array_equal(found == 0, expected == 0)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_makes_its_velocity_the_way_it_went(nesterov):
    generator = np.random.default_rng(3)
    theta, v = generator.normal(size=5), np.zeros(5)
    parameter = nn.Parameter(torch.tensor(theta))
    optimizer = (Nesterov if nesterov else Momentum)([parameter], lr=0.1)
    optimizer.prox = {parameter: L1(0.5, proximal=True).prox}
    for step in range(20):
        lr = 0.1 / (1 + step)
        optimizer.param_groups[0]["lr"] = lr
        g = generator.normal(size=5)
        proposal = theta + 0.9 * v - lr * g
        moved = np.sign(proposal) * np.maximum(np.abs(proposal) - lr * 0.5, 0)
        v, theta = moved - theta, moved
        parameter.grad = torch.tensor(g)
        optimizer.step()
        ahead = theta + 0.9 * v if nesterov else theta
        np.testing.assert_allclose(parameter.detach().numpy(), ahead, rtol=1e-12, atol=1e-14)


def test_elementwise_steps_are_those_of_the_update():
    steps = {}
    for name, (build, settings, _) in OPTIMIZERS.items():
        parameter = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
        optimizer = build([parameter], **settings)
        optimizer.prox = {parameter: lambda value, step, name=name: (steps.__setitem__(name, step), value)[1]}
        for g in ([1.0, -2.0], [3.0, 0.5], [0.0, 1.0]):
            parameter.grad = torch.tensor(g, dtype=torch.float64)
            optimizer.step()
    g2 = np.array([[1.0, 4.0], [9.0, 0.25], [0.0, 1.0]])
    s = 0.1 * (0.81 * g2[0] + 0.9 * g2[1] + g2[2])
    v = 0.001 * (0.999**2 * g2[0] + 0.999 * g2[1] + g2[2]) / (1 - 0.999**3)
    assert [steps[name] for name in ("sgd", "momentum", "nesterov")] == [0.15, 0.05, 0.05]
    np.testing.assert_allclose(steps["rmsprop"].numpy(), 0.02 / (np.sqrt(s) + 1e-8), rtol=1e-13)
    for name in ("adam", "adamw"):
        np.testing.assert_allclose(steps[name].numpy(), 0.02 / (np.sqrt(v) + 1e-8), rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_prox_acts_on_updated_parameters_alone(name):
    build, settings, _ = OPTIMIZERS[name]
    penalized, resting, free = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3))
    optimizer = build([penalized, resting, free], **settings)
    optimizer.prox = {p: L1(1e6, proximal=True).prox for p in (penalized, resting)}
    penalized.grad = torch.ones(2, dtype=torch.float64)
    free.grad = torch.ones(2, dtype=torch.float64)
    optimizer.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    assert torch.equal(penalized, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(resting, torch.ones(2, dtype=torch.float64))
    assert bool((free > 0.5).all())
    assert "prox" not in optimizer.state_dict()["param_groups"][0]
