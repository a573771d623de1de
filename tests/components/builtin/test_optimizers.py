"""Update rules against their formulas in NumPy float64, step by step, while a scheduler moves α."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from torchplug.components.builtin.adaptive_optimizers import Adam, AdamW, RMSprop
from torchplug.components.builtin.optimizers import SGD, Momentum, Nesterov
from torchplug.components.builtin.schedulers import InverseTime

STEPS = 40
A = np.random.default_rng(7).normal(size=(9, 6))
B = np.random.default_rng(8).normal(size=9)
START = np.random.default_rng(9).normal(size=6)


def gradient(theta):
    """Of Σ log cosh(Aθ − b), which is neither linear nor separable."""
    return A.T @ np.tanh(A @ theta - B)


class SGDFormula:
    def __init__(self, **_):
        self.theta = START.copy()

    def step(self, lr):
        self.theta = self.theta - lr * gradient(self.theta)


class MomentumFormula(SGDFormula):
    look = 0.0

    def __init__(self, beta=0.9, **_):
        super().__init__()
        self.beta, self.v = beta, np.zeros(6)

    def step(self, lr):
        at = self.theta + self.look * self.beta * self.v
        self.v = self.beta * self.v - lr * gradient(at)
        self.theta = self.theta + self.v


class NesterovFormula(MomentumFormula):
    look = 1.0


class RMSpropFormula(SGDFormula):
    def __init__(self, beta=0.9, eps=1e-8, **_):
        super().__init__()
        self.beta, self.eps, self.s = beta, eps, np.zeros(6)

    def step(self, lr):
        g = gradient(self.theta)
        self.s = self.beta * self.s + (1 - self.beta) * g**2
        self.theta = self.theta - lr * g / (np.sqrt(self.s) + self.eps)


class AdamFormula(SGDFormula):
    def __init__(self, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, **_):
        super().__init__()
        self.betas, self.eps, self.decay = betas, eps, weight_decay
        self.m, self.v, self.t = np.zeros(6), np.zeros(6), 0

    def step(self, lr):
        g = gradient(self.theta)
        self.t += 1
        self.theta = (1 - lr * self.decay) * self.theta
        self.m = self.betas[0] * self.m + (1 - self.betas[0]) * g
        self.v = self.betas[1] * self.v + (1 - self.betas[1]) * g**2
        corrected = self.m / (1 - self.betas[0] ** self.t), self.v / (1 - self.betas[1] ** self.t)
        self.theta = self.theta - lr * corrected[0] / (np.sqrt(corrected[1]) + self.eps)


CASES = {
    "sgd": (SGD, SGDFormula, {}),
    "momentum": (Momentum, MomentumFormula, {}),
    "momentum heavier": (Momentum, MomentumFormula, {"beta": 0.99}),
    "nesterov": (Nesterov, NesterovFormula, {}),
    "nesterov lighter": (Nesterov, NesterovFormula, {"beta": 0.5}),
    "rmsprop": (RMSprop, RMSpropFormula, {}),
    "rmsprop other": (RMSprop, RMSpropFormula, {"beta": 0.99, "eps": 1e-2}),
    "adam": (Adam, AdamFormula, {}),
    "adam other": (Adam, AdamFormula, {"betas": (0.8, 0.9), "eps": 1e-2}),
    "adamw": (AdamW, AdamFormula, {"weight_decay": 0.1}),
}
BUILT = {name: (case[0], case[2]) for name, case in CASES.items() if " " not in name}


def parameters(dtype=torch.float64):
    """START in two parameters, a matrix and a bias."""
    start = torch.tensor(START, dtype=dtype)
    return [nn.Parameter(start[:4].view(2, 2).clone()), nn.Parameter(start[4:].clone())]


def flat(tensors):
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def closure_for(params, optimizer):
    a, b = (torch.tensor(array, dtype=params[0].dtype) for array in (A, B))

    def closure():
        optimizer.zero_grad()
        loss = torch.cosh(a @ torch.cat([p.flatten() for p in params]) - b).log().sum()
        loss.backward()
        return loss

    return closure


def resting(optimizer, params):
    """θ itself, where an optimizer trains elsewhere."""
    if hasattr(optimizer, "eval"):
        optimizer.eval()
        theta = flat(params)
        optimizer.train()
        return theta
    return flat(params)


@pytest.mark.parametrize("use_closure", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_update_is_the_formula_while_a_scheduler_moves_the_rate(name, use_closure):
    build, formula, settings = CASES[name]
    params = parameters()
    optimizer = build(params, lr=0.05, **settings)
    scheduler = InverseTime(optimizer, decay=0.2, interval="step")
    reference = formula(**settings)
    closure = closure_for(params, optimizer)
    for step in range(STEPS):
        if use_closure:
            assert optimizer.step(closure).item() > 0
        else:
            closure()
            optimizer.step()
        reference.step(0.05 / (1 + 0.2 * step))
        scheduler.step()
        np.testing.assert_allclose(resting(optimizer, params).numpy(), reference.theta, rtol=1e-12, atol=1e-13)
        if isinstance(optimizer, Nesterov):
            ahead = reference.theta + reference.beta * reference.v
            np.testing.assert_allclose(flat(params).numpy(), ahead, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", BUILT)
def test_float32_follows_float64(name):
    build, settings = BUILT[name]
    found = []
    for dtype in (torch.float32, torch.float64):
        params = parameters(dtype)
        optimizer = build(params, lr=0.01, **settings)
        for _ in range(10):
            optimizer.step(closure_for(params, optimizer))
        assert params[0].dtype == dtype
        found.append(flat(params).double())
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BUILT)
def test_parameters_without_gradient_rest_and_groups_have_their_own_rate(name):
    build, settings = BUILT[name]
    params = parameters()
    still = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = build([{"params": [params[0], still]}, {"params": [params[1]], "lr": 1e-9}], lr=0.1, **settings)
    before = flat(params)
    for _ in range(3):
        optimizer.step(closure_for(params, optimizer))
    after = flat(params)
    assert torch.equal(still, torch.ones(3, dtype=torch.float64))
    assert (after[:4] - before[:4]).abs().max() > 1e-2
    assert (after[4:] - before[4:]).abs().max() < 1e-6


@pytest.mark.parametrize("resting_when_saved", [True, False])
@pytest.mark.parametrize("name", BUILT)
def test_saved_state_goes_on_bit_for_bit(name, resting_when_saved):
    build, settings = BUILT[name]
    whole = parameters()
    optimizer = build(whole, lr=0.05, **settings)
    for _ in range(5):
        optimizer.step(closure_for(whole, optimizer))
    if resting_when_saved and hasattr(optimizer, "eval"):
        optimizer.eval()
    kept = io.BytesIO()
    torch.save({"parameters": [p.detach() for p in whole], "optimizer": optimizer.state_dict()}, kept)
    kept.seek(0)
    loaded = torch.load(kept, weights_only=True)
    resumed = [nn.Parameter(p) for p in loaded["parameters"]]
    again = build(resumed, lr=0.05, **settings)
    again.load_state_dict(loaded["optimizer"])
    for _ in range(5):
        for chosen, params in ((optimizer, whole), (again, resumed)):
            if hasattr(chosen, "train"):
                chosen.train()
            closure_for(params, chosen)()
            chosen.step()
        assert torch.equal(flat(resumed), flat(whole))


@pytest.mark.parametrize("build", [SGD, Adam, AdamW])
def test_parameters_that_are_not_alike_do_without_the_fused_kernel(build):
    def trained(*groups):
        optimizer = build([{"params": group} for group in groups], lr=0.1)
        for _ in range(3):
            for parameter in (p for group in groups for p in group):
                parameter.grad = parameter.detach() + 1
            optimizer.step()
        return [group["fused"] for group in optimizer.param_groups]

    single, double = (torch.ones(2, dtype=dtype, requires_grad=True) for dtype in (torch.float32, torch.float64))
    apart = [p.detach().clone().requires_grad_() for p in (single, double)]
    assert trained([single, double]) == [False]
    assert trained([apart[0]], [apart[1]]) == [True, True]
    torch.testing.assert_close(single, apart[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(double, apart[1], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_fused_kernels_leave_skipping_and_clipping_to_the_core(name):
    build, settings = BUILT[name]
    optimizer = build(parameters(), **settings)
    assert optimizer.param_groups[0]["fused"] is True
    assert not getattr(optimizer, "_step_supports_amp_scaling", False)


def test_switching_nesterov_is_idempotent_and_leaves_no_trace():
    found = []
    for switching in (False, True):
        params = parameters()
        optimizer = Nesterov(params, lr=0.05)
        for _ in range(8):
            closure_for(params, optimizer)()
            optimizer.step()
            if switching:
                ahead = flat(params)
                optimizer.train()
                assert torch.equal(flat(params), ahead)
                optimizer.eval()
                theta = flat(params)
                optimizer.eval()
                assert torch.equal(flat(params), theta)
                assert not torch.equal(theta, ahead)
                optimizer.train()
        found.append(flat(params))
    assert torch.equal(found[0], found[1])


def test_nesterov_refuses_a_gradient_from_the_wrong_point():
    params = parameters()
    optimizer = Nesterov(params, lr=0.05)
    closure = closure_for(params, optimizer)
    optimizer.step(closure)
    optimizer.eval()
    closure()
    with pytest.raises(RuntimeError, match=r"call train\(\)"):
        optimizer.step()
    optimizer.step(closure)


def test_weights_changed_while_nesterov_rests_are_taken_over():
    params = parameters()
    optimizer = Nesterov(params, lr=0.05)
    optimizer.step(closure_for(params, optimizer))
    optimizer.eval()
    with torch.no_grad():
        params[1].fill_(3.0)
    optimizer.train()
    optimizer.eval()
    assert torch.equal(params[1], torch.full((2,), 3.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (SGD, {"lr": 0.0}, "lr must be positive"),
        (SGD, {"lr": float("nan")}, "lr must be positive"),
        (Momentum, {"lr": -1.0}, "lr must be positive"),
        (Momentum, {"beta": 1.0}, r"beta must be in \[0, 1\)"),
        (Nesterov, {"beta": -0.1}, r"beta must be in \[0, 1\)"),
        (RMSprop, {"beta": 1.5}, r"beta must be in \[0, 1\)"),
        (RMSprop, {"eps": 0.0}, "eps must be positive"),
        (Adam, {"lr": float("inf")}, "lr must be positive"),
        (Adam, {"betas": (0.9, 1.0)}, r"betas\[1\] must be in \[0, 1\)"),
        (Adam, {"betas": (0.9,)}, "two numbers"),
        (AdamW, {"eps": -1.0}, "eps must be positive"),
        (AdamW, {"weight_decay": -0.1}, "weight_decay must be at least 0"),
    ],
)
def test_parameters_out_of_range_are_refused(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(parameters(), **settings)
