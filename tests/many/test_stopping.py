"""Early stopping of many models: Lightning's decisions for each."""

import lightning
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import EarlyStopping

from torchplug.many.stopping import EarlyStops


class _Trainer:
    """What Lightning's callback asks of a trainer."""

    fast_dev_run = False
    sanity_checking = False
    should_stop = False
    current_epoch = 0
    world_size = 1
    state = type("State", (), {"fn": lightning.pytorch.trainer.states.TrainerFn.FITTING})
    strategy = type("Strategy", (), {"reduce_boolean_decision": staticmethod(lambda stop, all: stop)})


def stopped_at(callback, values):
    """The epoch after which a single fit with these values stops; None if it does not."""
    trainer = _Trainer()
    callback._check_on_train_epoch_end = True  # as a Trainer of one validation an epoch sets it
    for epoch, value in enumerate(values):
        trainer.callback_metrics = {"m": torch.tensor(value)}
        callback.on_train_epoch_end(trainer, None)
        if trainer.should_stop:
            return epoch
    return None


VALUES = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0, float("nan"), float("inf")]), st.floats(-3, 3, width=16))


@given(
    curves=st.lists(st.lists(VALUES, min_size=6, max_size=6), min_size=1, max_size=3),
    mode=st.sampled_from(["min", "max"]),
    patience=st.integers(1, 3),
    min_delta=st.sampled_from([0.0, 0.25]),
    check_finite=st.booleans(),
    stopping=st.sampled_from([None, -0.75]),
    divergence=st.sampled_from([None, 1.75]),
)
@settings(deadline=None)
def test_each_model_stops_where_its_own_fit_does(curves, mode, patience, min_delta, check_finite, stopping, divergence):
    chosen = {
        "monitor": "m",
        "mode": mode,
        "patience": patience,
        "min_delta": min_delta,
        "check_finite": check_finite,
        "stopping_threshold": stopping,
        "divergence_threshold": divergence,
    }
    stops, found = EarlyStops(EarlyStopping(**chosen), len(curves)), {}
    for epoch in range(6):
        values = torch.tensor([curve[epoch] for curve in curves], dtype=torch.float32)
        for model in stops.stop(values):
            found.setdefault(model, epoch)
    for model, curve in enumerate(curves):
        assert found.get(model) == stopped_at(EarlyStopping(**chosen), curve)


@pytest.mark.parametrize(
    ("chosen", "curve", "reason"),
    [
        ({"patience": 1}, [1.0, 2.0], "m did not improve in the last 1 epochs"),
        ({"stopping_threshold": 0.5}, [1.0, 0.4], "m passed the stopping threshold"),
        ({"divergence_threshold": 3.0}, [1.0, 4.0], "m passed the divergence threshold"),
        ({}, [1.0, float("nan")], "m is not finite"),
    ],
)
def test_the_reason_is_told(chosen, curve, reason):
    stops = EarlyStops(EarlyStopping("m", **chosen), 1)
    assert stops.stop(torch.tensor(curve[:1])) == {}
    assert stops.stop(torch.tensor(curve[1:])) == {0: reason}
