"""The optimizer's part of a step."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from torchplug.components.builtin.adaptive_optimizers import Adam
from torchplug.training.update import Update


def optimizer(build=Adam):
    parameter = torch.zeros(2, requires_grad=True)
    parameter.grad = torch.ones(2)
    return build([parameter], lr=0.1)


def everybodys(optimizer, hook):
    return register_optimizer_step_post_hook(hook)


HOOKS = {
    "before": lambda optimizer, hook: optimizer.register_step_pre_hook(hook),
    "after": lambda optimizer, hook: optimizer.register_step_post_hook(hook),
    "of all optimizers": everybodys,
}


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_is_called(name):
    one, calls = optimizer(), []
    update = Update(one)
    assert not update.is_hooked()
    handle = HOOKS[name](one, lambda *arguments: calls.append(arguments))
    try:
        assert update.is_hooked()
        update.leanest()()
        assert len(calls) == 1
    finally:
        handle.remove()
    assert not update.is_hooked()


def test_the_optimizers_own_hooks_do_not_count():
    one = optimizer()
    one.register_step_post_hook(lambda *arguments: None)
    assert not Update(one).is_hooked()


@pytest.mark.parametrize("build", [Adam, torch.optim.Adam])
def test_the_leanest_is_a_step(build):
    one = optimizer(build)
    with torch.no_grad():
        Update(one, declared=build is Adam).leanest()()
    assert float(one.param_groups[0]["params"][0].detach()[0]) == pytest.approx(-0.1)


def test_another_update_takes_its_place_in_every_step():
    one, calls = optimizer(), []
    update = Update(one, declared=True)
    update.replace(lambda: calls.append("other"))
    update.leanest()()
    one.step()
    assert calls == ["other", "other"]
    update.restore()
    update.restore()
    one.step()
    assert calls == ["other", "other"]
    assert float(one.param_groups[0]["params"][0].detach()[0]) == pytest.approx(-0.1)
