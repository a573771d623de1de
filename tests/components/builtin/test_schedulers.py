"""Schedules in closed form against the formulas of the notes and torch's own schedulers."""

import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from torchplug.components.builtin.schedulers import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    InverseTime,
    Manual,
    OneCycle,
    StepDecay,
)

FEW = settings(max_examples=30, deadline=None)
RATE = st.floats(1e-5, 10)


def optimizer(*rates):
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def course(build, rate, length):
    """α at the counts 0 to length - 1, as the optimizer has it."""
    moved = optimizer(rate)
    scheduler = build(moved)
    seen = []
    for _ in range(length):
        seen.append(moved.param_groups[0]["lr"])
        moved.step()
        scheduler.step()
    return seen


@FEW
@given(RATE, st.floats(0, 5), st.integers(1, 7), st.floats(0, 0.95))
def test_formulas_of_the_notes(rate, decay, every, fraction):
    n = 12
    assert course(Constant, rate, n) == [rate] * n
    found = course(lambda o: InverseTime(o, decay=decay), rate, n)
    assert found == pytest.approx([rate / (1 + decay * e) for e in range(n)], rel=1e-13)
    found = course(lambda o: Exponential(o, decay=1 - fraction), rate, n)
    assert found == pytest.approx([(1 - fraction) ** e * rate for e in range(n)], rel=1e-13)
    found = course(lambda o: InverseSqrt(o, scale=decay + 0.1), rate, n)
    assert found == pytest.approx([(decay + 0.1) / math.sqrt(e) * rate for e in range(1, n + 1)], rel=1e-13)
    expected, current = [], rate
    for epoch in range(n):
        if epoch > 0 and epoch % every == 0:
            current -= fraction * current
        expected.append(current)
    assert course(lambda o: StepDecay(o, every=every, fraction=fraction), rate, n) == pytest.approx(expected, rel=1e-12)


def test_manual_holds_each_rate_until_the_next():
    found = course(lambda o: Manual(o, table={5: 0.01, 2: 0.1}), 1.0, 7)
    assert found == [1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01]
    assert course(lambda o: Manual(o, table={0: 0.5}), 1.0, 2) == [0.5, 0.5]


@pytest.mark.parametrize("min_lr", [0.0, 0.02])
@pytest.mark.parametrize(("interval", "length"), [("epoch", 8), ("step", 40)])
def test_cosine_is_torchs_and_stays_down(interval, length, min_lr):
    found = course(
        lambda o: Cosine(o, total_steps=40, steps_per_epoch=5, min_lr=min_lr, interval=interval), 0.3, length + 4
    )
    expected = course(lambda o: lr_scheduler.CosineAnnealingLR(o, length, min_lr), 0.3, length + 1)
    assert found == pytest.approx(expected + [min_lr] * 3, rel=1e-12, abs=1e-15)


@FEW
@given(
    st.integers(2, 60), st.floats(0.05, 0.95), st.floats(1, 50), st.floats(1, 1e4), st.sampled_from(["cos", "linear"])
)
def test_one_cycle_is_torchs(steps, part, div, final, strategy):
    if part * steps == 1:  # torch divides by zero there
        part += 0.01
    shape = {"pct_start": part, "div_factor": div, "final_div_factor": final, "anneal_strategy": strategy}
    found = course(lambda o: OneCycle(o, total_steps=steps, **shape), 0.3, steps)
    reference = course(
        lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=steps, cycle_momentum=False, **shape), 0.3, steps
    )
    assert found == pytest.approx(reference, rel=1e-9, abs=1e-13)


def test_one_cycle_ends_low_and_stays_there():
    found = course(lambda o: OneCycle(o, total_steps=10), 0.5, 14)
    assert max(found) == pytest.approx(0.5)
    assert found[9:] == pytest.approx([0.5 / 25 / 1e4] * 5)


BUILDERS = {
    "constant": Constant,
    "inverse_time": lambda o: InverseTime(o, decay=0.3, interval="step"),
    "step": lambda o: StepDecay(o, every=2),
    "exponential": Exponential,
    "inverse_sqrt": InverseSqrt,
    "manual": lambda o: Manual(o, table={3: 0.01}),
    "cosine": lambda o: Cosine(o, total_steps=12, steps_per_epoch=1),
    "one_cycle": lambda o: OneCycle(o, total_steps=12),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_groups_keep_their_own_rates_and_a_resumed_run_goes_on_alike(name):
    def advance(moved, scheduler, steps):
        for _ in range(steps):
            moved.step()
            scheduler.step()

    whole = optimizer(0.1, 1.0)
    whole_scheduler = BUILDERS[name](whole)
    advance(whole, whole_scheduler, 4)
    kept = io.BytesIO()
    torch.save({"optimizer": whole.state_dict(), "scheduler": whole_scheduler.state_dict()}, kept)
    kept.seek(0)
    loaded = torch.load(kept, weights_only=True)
    resumed = optimizer(0.1, 1.0)
    resumed_scheduler = BUILDERS[name](resumed)
    resumed.load_state_dict(loaded["optimizer"])
    resumed_scheduler.load_state_dict(loaded["scheduler"])
    assert resumed_scheduler.get_last_lr() == whole_scheduler.get_last_lr()
    for _ in range(6):
        assert [g["lr"] for g in resumed.param_groups] == [g["lr"] for g in whole.param_groups]
        if name != "manual":
            assert resumed.param_groups[1]["lr"] == pytest.approx(10 * resumed.param_groups[0]["lr"])
        advance(whole, whole_scheduler, 1)
        advance(resumed, resumed_scheduler, 1)


def test_a_resumed_schedule_follows_the_parameters_it_is_built_with():
    moved = optimizer(1.0)
    first = InverseTime(moved, decay=0.1)
    moved.step()
    first.step()
    again = optimizer(1.0)
    second = InverseTime(again, decay=0.5)
    second.load_state_dict(first.state_dict())
    again.step()
    second.step()
    assert again.param_groups[0]["lr"] == pytest.approx(1.0 / (1 + 0.5 * 2))


def test_interval_is_told_to_the_trainer():
    assert InverseTime(optimizer(1.0)).interval == "epoch"
    assert InverseTime(optimizer(1.0), interval="step").interval == "step"
    assert OneCycle(optimizer(1.0), total_steps=5).interval == "step"


@pytest.mark.parametrize(
    "build",
    [
        lambda o: InverseTime(o, decay=-1.0),
        lambda o: InverseTime(o, interval="batch"),
        lambda o: StepDecay(o, every=0),
        lambda o: StepDecay(o, fraction=1.0),
        lambda o: Exponential(o, decay=0.0),
        lambda o: Exponential(o, decay=1.1),
        lambda o: InverseSqrt(o, scale=0.0),
        lambda o: Manual(o, table={}),
        lambda o: Manual(o, table={-1: 0.1}),
        lambda o: Manual(o, table={1: 0.0}),
        lambda o: Cosine(o, total_steps=10, steps_per_epoch=1, min_lr=-1.0),
        lambda o: Cosine(o, total_steps=math.inf, steps_per_epoch=1),
        lambda o: OneCycle(o),
        lambda o: OneCycle(o, total_steps=-1),
        lambda o: OneCycle(o, total_steps=10, pct_start=1.0),
        lambda o: OneCycle(o, total_steps=10, div_factor=0.5),
        lambda o: OneCycle(o, total_steps=10, anneal_strategy="cubic"),
    ],
)
def test_parameters_out_of_range_are_refused(build):
    with pytest.raises(ValueError, match=r"must|needs to know"):
        build(optimizer(1.0))
