"""Schedules against their formulas, step by step, and resumed."""

import numpy as np
import pytest
import torch

from torchplug import TorchplugError, use
from torchplug.registry import registry
from torchplug.registry.component import Family

FORMULAS = {
    "coslog": (use("coslog"), lambda t: 0.5 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * t)))),
    "one cycle": (use("coslog", cycles=1), lambda t: 0.5 * (1 - np.cos(2 * np.pi * np.log2(1 + t)))),
    "flat_cosine": (use("flat_cosine"), lambda t: np.where(t < 0.5, 1.0, 0.5 * (1 + np.cos(2 * np.pi * (t - 0.5))))),
    "cosine": (use("flat_cosine", flat=0.0), lambda t: 0.5 * (1 + np.cos(np.pi * t))),
}


def built(spec, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    return optimizer, registry().resolve(Family.SCHEDULER, spec).build(optimizer, total_steps=steps)


def rates(optimizer, scheduler, steps):
    for _ in range(steps):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(("spec", "formula"), FORMULAS.values(), ids=FORMULAS.keys())
def test_the_rate_follows_the_formula_and_stays_at_its_end(spec, formula):
    found = np.array(list(rates(*built(spec, 40), 45)))
    expected = 0.3 * formula(np.minimum(np.arange(45) / 40, 1.0))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("spec", ["coslog", "flat_cosine"])
def test_a_resumed_run_goes_on_where_it_was(spec):
    whole = list(rates(*built(spec, 20), 20))
    optimizer, scheduler = built(spec, 20)
    first = list(rates(optimizer, scheduler, 7))
    saved = scheduler.state_dict(), optimizer.state_dict()
    optimizer, scheduler = built(spec, 20)
    scheduler.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    assert [*first, *rates(optimizer, scheduler, 13)] == whole


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (use("coslog", cycles=0), "cycles must be from 1 to 30, got 0"),
        (use("flat_cosine", flat=1.0), r"flat must be in \[0, 1\), got 1.0"),
    ],
)
def test_parameters_out_of_range_are_refused(spec, message):
    with pytest.raises(TorchplugError, match=message):
        built(spec, 10)


def test_a_run_without_a_planned_end_is_refused():
    with pytest.raises(TorchplugError, match="set max_epochs or max_steps"):
        built("coslog", None)


DECAYS = {"coslog": use("coslog"), "flat_cosine": use("flat_cosine", anneal_weight_decay=True)}


def over_groups(spec, steps):
    """Two groups with weight decays of their own, scheduled by a spec."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "weight_decay": decay} for decay in (0.02, 0.5)]
    optimizer = torch.optim.AdamW(groups, lr=0.3)
    return optimizer, registry().resolve(Family.SCHEDULER, spec).build(optimizer, total_steps=steps, steps_per_epoch=5)


def decays(optimizer, scheduler, steps):
    """The groups' weight decays in each of some steps."""
    for _ in range(steps):
        yield [group["weight_decay"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()


def annealed(t):
    """The part of the weight decay that is left at t in [0, 1]."""
    return np.where(t < 0.5, 1.0, 0.5 * (1.0 + np.cos(np.pi * (2.0 * t - 1.0))))


@pytest.mark.parametrize("spec", DECAYS.values(), ids=DECAYS)
def test_each_groups_weight_decay_falls_from_its_own_to_nothing(spec):
    found = np.array(list(decays(*over_groups(spec, 40), 45)))
    expected = annealed(np.minimum(np.arange(45) / 40, 1.0))
    np.testing.assert_allclose(found, np.outer(expected, [0.02, 0.5]), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("spec", [use("coslog", anneal_weight_decay=False), use("flat_cosine")], ids=["off", "default"])
def test_the_weight_decay_stays_unless_it_is_to_fall(spec):
    assert all(found == [0.02, 0.5] for found in decays(*over_groups(spec, 20), 25))


@pytest.mark.parametrize("spec", DECAYS.values(), ids=DECAYS)
@pytest.mark.parametrize("passed", [0, 7, 16])
def test_a_resumed_weight_decay_goes_on_where_it_was(spec, passed):
    whole = list(decays(*over_groups(spec, 20), 20))
    optimizer, scheduler = over_groups(spec, 20)
    first = list(decays(optimizer, scheduler, passed))
    saved = scheduler.state_dict(), optimizer.state_dict()
    optimizer, scheduler = over_groups(spec, 20)
    optimizer.load_state_dict(saved[1])
    scheduler.load_state_dict(saved[0])
    assert [*first, *decays(optimizer, scheduler, 20 - passed)] == whole


def test_after_warmup_it_falls_in_the_second_half_of_what_is_left():
    spec = use("warmup", steps=10, after={"name": "coslog", "parameters": {}})
    found = np.array(list(decays(*over_groups(spec, 50), 50)))
    expected = np.concatenate([np.ones(10), annealed(np.arange(40) / 40)])
    np.testing.assert_allclose(found, np.outer(expected, [0.02, 0.5]), rtol=1e-12)


def test_an_optimizer_without_weight_decay_gets_none():
    optimizer = torch.optim.Rprop([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = registry().resolve(Family.SCHEDULER, "coslog").build(optimizer, total_steps=4)
    optimizer.step()
    scheduler.step()
    assert "weight_decay" not in optimizer.param_groups[0]


def ended_after(losses, epochs=60, spec=None):
    """The epoch after which a schedule ends a run of single steps with these validation losses, and why."""
    optimizer, scheduler = built(spec or use("coslog", stop_early=True), epochs)
    for epoch in range(1, epochs + 1):
        optimizer.step()
        scheduler.step()
        reason = scheduler.reason_to_end(losses(epoch / epochs))
        if reason is not None:
            return epoch, reason
    return None


def test_a_run_ends_after_the_first_cycle_that_does_not_lower_the_validation_loss():
    assert ended_after(lambda t: 1.0 - t) is None
    assert ended_after(lambda t: 1.0 + t) == (12, "cycle 2 of the learning rate did not lower the validation loss")
    assert ended_after(lambda t: max(1.0 - t, 0.8)) == (
        28,
        "cycle 3 of the learning rate did not lower the validation loss",
    )
    assert ended_after(lambda t: 1.0 - (t > 3 / 15)) == (
        12,
        "cycle 2 of the learning rate did not lower the validation loss",
    )


def test_an_epoch_belongs_to_the_cycle_in_which_it_ends():
    assert ended_after(lambda t: 1.0 - t, 10) is None
    reason = "cycle 3 of the learning rate did not lower the validation loss"
    assert ended_after(lambda t: 1.0, 10) == (5, reason)  # no epoch ends in the first cycle, and the third within 5
    assert ended_after(lambda t: 1.0, 64) == (13, reason.replace("3", "2"))


def test_what_was_seen_is_saved():
    whole = use("coslog", stop_early=True)
    optimizer, scheduler = built(whole, 60)
    for epoch in range(1, 10):
        optimizer.step()
        scheduler.step()
        assert scheduler.reason_to_end(1.0 if epoch == 2 else 2.0) is None
    saved = scheduler.state_dict(), optimizer.state_dict()
    optimizer, scheduler = built(whole, 60)
    optimizer.load_state_dict(saved[1])
    scheduler.load_state_dict(saved[0])
    reasons = []
    for _ in range(3):
        optimizer.step()
        scheduler.step()
        reasons.append(scheduler.reason_to_end(1.5))
    assert [reason is not None for reason in reasons] == [False, False, True]


def test_under_warmup_it_ends_the_run_after_its_own_cycle():
    spec = use("warmup", steps=10, after={"name": "coslog", "parameters": {"stop_early": True}})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = registry().resolve(Family.SCHEDULER, spec).build(optimizer, total_steps=70, steps_per_epoch=1)
    assert scheduler.stop_early
    reasons = []
    for _ in range(22):
        optimizer.step()
        scheduler.step()
        reasons.append(scheduler.reason_to_end(1.0))
    assert [number for number, reason in enumerate(reasons, 1) if reason is not None] == [22]
    bare = registry().resolve(Family.SCHEDULER, "warmup").build(optimizer, total_steps=70, steps_per_epoch=1)
    assert not bare.stop_early
