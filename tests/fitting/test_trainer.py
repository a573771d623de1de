"""The Trainer of a fit."""

import pytest
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler

from torchplug.fitting.trainer import build_trainer


@pytest.mark.parametrize("settings", [{}, {"profiler": None}])
def test_nothing_is_measured_unless_it_is_asked_for(settings):
    profiler = build_trainer(settings).profiler
    assert isinstance(profiler, PassThroughProfiler)
    with pytest.raises(ZeroDivisionError), profiler.profile("outer"), profiler.profile("inner"):
        raise ZeroDivisionError


@pytest.mark.parametrize("asked", ["simple", SimpleProfiler()])
def test_a_profiler_is_kept(asked):
    assert isinstance(build_trainer({"profiler": asked}).profiler, SimpleProfiler)
