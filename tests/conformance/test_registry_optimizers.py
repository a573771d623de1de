"""Checks that every registered optimizer passes: what it needs it says, and its short cuts are none."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from registered import components, resolved, weights
from torchplug import Capability, Family
from torchplug.registry import Entry, registry

ROUGH = np.geomspace(1e-3, 1e3, 6).reshape(2, 3)


def descent(optimizer: Any, params: list[torch.Tensor], number: int, update: str) -> None:
    """One step along gradients that differ from element to element, and from step to step."""
    if hasattr(optimizer, "train"):
        optimizer.train()
    for p in params:
        scale = torch.tensor(ROUGH, dtype=p.dtype).view(-1).repeat(p.numel() // 6).view(p.shape)
        p.grad = scale * (p.detach() - 0.3) * (-1.0 if number % 3 == 2 else 1.0)
    getattr(optimizer, update)()


@components(Family.OPTIMIZER, having=lambda entry: Capability.ELEMENTWISE in entry.component.capabilities)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_elementwise_optimizer_does_the_same_to_one_flat_tensor(entry: Entry, dtype: torch.dtype):
    for update in ("step", "update"):
        if update == "step" or declares_update(entry):
            assert_same_on_one_flat_tensor(entry, dtype, update)


def assert_same_on_one_flat_tensor(entry: Entry, dtype: torch.dtype, update: str) -> None:
    single = [p.detach().to(dtype).requires_grad_() for p in weights(7)]
    flat = [torch.cat([p.detach().reshape(-1) for p in single])]
    chosen, over_flat = resolved(entry).build(single), resolved(entry).build(flat)
    rounding = 1e-6 if dtype == torch.float32 else 1e-15
    for number in range(1, 9):
        descent(chosen, single, number, update)
        descent(over_flat, flat, number, update)
        together = torch.cat([p.detach().reshape(-1) for p in single])
        torch.testing.assert_close(flat[0], together, rtol=rounding, atol=0)
        for optimizer in (chosen, over_flat):
            if hasattr(optimizer, "eval"):
                optimizer.eval()


def declares_update(entry: Entry) -> bool:
    """Whether `update()` is declared to be its step."""
    return Capability.UPDATE in entry.component.capabilities


def has_update_fn(entry: Entry) -> bool:
    """Whether its update is also a function of tensors."""
    return declares_update(entry) and hasattr(registry().target(entry), "update_fn")


@components(Family.OPTIMIZER, having=declares_update)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("proximal", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_an_optimizers_update_is_its_step(entry: Entry, dtype: torch.dtype, proximal: bool, frozen: bool):
    """Bit for bit, also after it was saved and loaded, and where parameters have no gradient."""

    class Run:
        def __init__(self, update: str) -> None:
            self.params = [p.detach().to(dtype).requires_grad_() for p in weights(3)]
            self.update = update
            self.build()

        def build(self) -> None:
            groups = [{"params": self.params[:1]}, {"params": self.params[1:], "lr": 0.02}]
            self.optimizer: Any = resolved(entry).build(groups)
            if proximal and Capability.PROX in entry.component.capabilities:
                self.optimizer.prox = {self.params[1]: lambda p, step: p / (1 + step)}

        def go(self, numbers: range) -> None:
            for number in numbers:
                moving = self.params[1:] if frozen and number > 3 else self.params
                for p in self.params:
                    p.grad = None
                descent(self.optimizer, moving, number, self.update)

        def reload(self) -> None:
            if hasattr(self.optimizer, "eval"):
                self.optimizer.eval()
            kept = io.BytesIO()
            torch.save(self.optimizer.state_dict(), kept)
            kept.seek(0)
            self.build()
            self.optimizer.load_state_dict(torch.load(kept, weights_only=True))

    runs = [Run("step"), Run("update")]
    for run in runs:
        run.go(range(1, 6))
        run.optimizer.param_groups[0]["lr"] *= 0.5  # as a scheduler does
        run.go(range(6, 8))
        run.reload()
        run.go(range(8, 12))
    stepped, updated = runs
    for a, b in zip(stepped.params, updated.params, strict=True):
        assert torch.equal(a, b)
        first, second = stepped.optimizer.state.get(a, {}), updated.optimizer.state.get(b, {})
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def as_tensors(optimizer: Any, group: dict[str, Any]) -> dict[str, Any]:
    """A group's numbers as a formula is given them."""
    found: dict[str, Any] = {}
    for name, default in optimizer.defaults.items():
        if isinstance(default, tuple):
            found[name] = tuple(torch.tensor(number, dtype=torch.float64) for number in group[name])
        elif isinstance(default, float):
            found[name] = torch.tensor(group[name], dtype=torch.float64)
    return found


@components(Family.OPTIMIZER, having=has_update_fn)
def test_an_optimizers_formula_is_its_update(entry: Entry):
    """To rounding, in plain numbers; and nothing that it is given changes."""
    params = [p.detach().double().requires_grad_() for p in weights(3)]
    optimizer: Any = resolved(entry).build([{"params": params[:1]}, {"params": params[1:], "lr": 0.02}])
    points = [p.detach().clone() for p in params]
    states = [optimizer.init_state(point) for point in points]
    groups = [optimizer.param_groups[0], optimizer.param_groups[1], optimizer.param_groups[1]]
    for number in range(1, 9):
        optimizer.param_groups[0]["lr"] *= 0.9  # as a scheduler does
        descent(optimizer, params, number, "update")
        if hasattr(optimizer, "eval"):  # a formula's parameters are where they are evaluated
            optimizer.eval()
        for i, (parameter, group) in enumerate(zip(params, groups, strict=True)):
            kept = [points[i].clone(), {key: value.clone() for key, value in states[i].items()}]
            point, state = optimizer.update_fn(points[i], parameter.grad, states[i], as_tensors(optimizer, group))
            assert torch.equal(points[i], kept[0])
            assert all(torch.equal(value, kept[1][key]) for key, value in states[i].items())
            points[i], states[i] = point, state
            torch.testing.assert_close(point, parameter.detach(), rtol=1e-13, atol=1e-15)
            own = optimizer.state.get(parameter, {})
            assert state.keys() <= own.keys()
            for key, value in state.items():
                assert value.dtype == own[key].dtype
                torch.testing.assert_close(value, own[key], rtol=1e-12, atol=1e-15)


@components(Family.OPTIMIZER, having=has_update_fn)
def test_an_optimizer_with_a_formula_steps_through_its_update(entry: Entry):
    """So that who puts a compiled one in its place reaches every step."""
    params = weights(1)
    optimizer: Any = resolved(entry).build(params)
    calls = []
    optimizer.update = lambda: calls.append("update")
    before = params[0].detach().clone()
    assert optimizer.step(lambda: "loss") == "loss"
    assert calls == ["update"]
    assert torch.equal(params[0], before)
