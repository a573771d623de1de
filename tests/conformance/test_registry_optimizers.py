"""Checks that every registered optimizer passes: what it needs it says, and its short cuts are none."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from registered import components, resolved, weights
from torchplug import Family, Need
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


@components(Family.OPTIMIZER, having=lambda entry: Need.ELEMENTWISE in entry.component.needs)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_elementwise_optimizer_does_the_same_to_one_flat_tensor(entry: Entry, dtype: torch.dtype):
    for update in ("step", "update"):
        if hasattr(registry().target(entry), update):
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


@components(Family.OPTIMIZER, having=lambda entry: hasattr(registry().target(entry), "update"))
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
            if proximal and Need.PROX in entry.component.needs:
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
