"""Plateau against torch's own, warm-up against torch's LinearLR in a SequentialLR."""

import io

import pytest
import torch
from torch.optim import lr_scheduler

from torchplug.components.builtin.schedulers import Cosine, InverseTime
from torchplug.components.builtin.stateful_schedulers import Plateau, Warmup

METRIC = [1.0, 0.9, 0.95, 0.96, 0.97, 0.5, 0.5, 0.5, 0.5, 0.5]


def optimizer(rate=0.8):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def rate_of(moved):
    return moved.param_groups[0]["lr"]


def after_cosine(moved, *, total_steps=None, steps_per_epoch):
    return Cosine(moved, total_steps=total_steps, steps_per_epoch=steps_per_epoch, interval="step")


def after_inverse_time(moved, **_):
    return InverseTime(moved, decay=1.0)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_is_torchs_with_a_named_metric(mode):
    ours, theirs = optimizer(), optimizer()
    scheduler = Plateau(ours, monitor="val/rmse", mode=mode, factor=0.5, patience=1, cooldown=1, min_lr=0.15)
    reference = lr_scheduler.ReduceLROnPlateau(theirs, mode, 0.5, 1, cooldown=1, min_lr=0.15)
    assert (scheduler.monitor, scheduler.interval) == ("val/rmse", "epoch")
    for metric in METRIC:
        scheduler.step(metric)
        reference.step(metric)
        assert rate_of(ours) == rate_of(theirs)
    assert rate_of(ours) < 0.8


def test_plateau_goes_on_where_it_was():
    whole = optimizer()
    scheduler = Plateau(whole, patience=1)
    for metric in METRIC[:3]:
        scheduler.step(metric)
    kept = io.BytesIO()
    torch.save({"optimizer": whole.state_dict(), "scheduler": scheduler.state_dict()}, kept)
    kept.seek(0)
    loaded = torch.load(kept, weights_only=True)
    resumed = optimizer()
    again = Plateau(resumed, patience=1)
    resumed.load_state_dict(loaded["optimizer"])
    again.load_state_dict(loaded["scheduler"])
    for metric in METRIC[3:]:
        scheduler.step(metric)
        again.step(metric)
        assert rate_of(resumed) == rate_of(whole)
    assert rate_of(whole) < 0.8


def run(moved, scheduler, steps):
    seen = []
    for _ in range(steps):
        seen.append(rate_of(moved))
        moved.step()
        scheduler.step()
    return seen


def test_warmup_alone_rises_linearly_and_stays():
    moved = optimizer()
    scheduler = Warmup(moved, total_steps=20, steps_per_epoch=4, steps=4, start=0.2)
    assert scheduler.interval == "step"
    assert run(moved, scheduler, 7) == pytest.approx([0.8 * f for f in (0.2, 0.4, 0.6, 0.8, 1, 1, 1)])


def test_warmup_before_another_is_torchs_sequence():
    ours = optimizer()
    scheduler = Warmup(ours, total_steps=20, steps_per_epoch=5, steps=6, start=0.25, after=after_cosine)
    theirs = optimizer()
    rise = lr_scheduler.LinearLR(theirs, start_factor=0.25, total_iters=6)
    fall = lr_scheduler.CosineAnnealingLR(theirs, 14)
    reference = lr_scheduler.SequentialLR(theirs, [rise, fall], [6])
    assert run(ours, scheduler, 20) == pytest.approx(run(theirs, reference, 20), rel=1e-12)


def test_warmup_counts_the_epochs_of_what_follows_from_its_own_end():
    moved = optimizer()
    scheduler = Warmup(moved, total_steps=20, steps_per_epoch=3, epochs=1.0, start=0.1, after=after_inverse_time)
    found = run(moved, scheduler, 12)
    assert found[3:] == pytest.approx([0.8] * 3 + [0.4] * 3 + [0.8 / 3] * 3)


def test_warmup_lasts_one_epoch_unless_told():
    moved = optimizer()
    found = run(moved, Warmup(moved, total_steps=20, steps_per_epoch=4), 6)
    assert found[3] < found[4] == found[5] == 0.8


@pytest.mark.parametrize("at", [2, 4, 7, 9])
@pytest.mark.parametrize("after", [None, after_cosine, after_inverse_time])
def test_warmup_goes_on_where_it_was(at, after):
    def build():
        moved = optimizer()
        return moved, Warmup(moved, total_steps=16, steps_per_epoch=3, steps=4, after=after)

    whole, scheduler = build()
    run(whole, scheduler, at)
    kept = io.BytesIO()
    torch.save({"optimizer": whole.state_dict(), "scheduler": scheduler.state_dict()}, kept)
    kept.seek(0)
    loaded = torch.load(kept, weights_only=True)
    resumed, again = build()
    resumed.load_state_dict(loaded["optimizer"])
    again.load_state_dict(loaded["scheduler"])
    assert again.get_last_lr() == scheduler.get_last_lr()
    assert run(resumed, again, 16 - at) == run(whole, scheduler, 16 - at)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda o: Plateau(o, factor=1.0), "factor"),
        (lambda o: Plateau(o, patience=-1), "patience"),
        (lambda o: Plateau(o, threshold=-1.0), "threshold"),
        (lambda o: Plateau(o, mode="best"), "mode"),
        (lambda o: Warmup(o, total_steps=9, steps_per_epoch=3, steps=0), "steps"),
        (lambda o: Warmup(o, total_steps=9, steps_per_epoch=3, epochs=0.0), "epochs"),
        (lambda o: Warmup(o, total_steps=9, steps_per_epoch=3, steps=1, epochs=1.0), "not both"),
        (lambda o: Warmup(o, total_steps=9, steps_per_epoch=3, start=1.5), "start"),
        (lambda o: Warmup(o, steps_per_epoch=3, after=after_cosine), "where training ends"),
        (lambda o: Warmup(o, total_steps=9, steps_per_epoch=3, after=lambda p, **_: Plateau(p)), "metric"),
    ],
)
def test_parameters_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build(optimizer())
