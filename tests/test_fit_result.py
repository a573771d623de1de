"""What a fit came to."""

from torchplug import ComponentModule, FitResult, Outcome
from torchplug.fit_result import LateMetrics


def test_a_module_is_built_once_and_when_it_is_asked_for():
    built = []

    def build():
        built.append(1)
        return ComponentModule("linear")

    result = FitResult({"val/loss": 1.0}, Outcome("limit", "it is done"), build)
    assert "ComponentModule" not in repr(result)
    assert not built
    assert result.module is result.module
    assert len(built) == 1


def test_late_metrics_are_computed_once_and_known_ones_stay():
    calls = []

    def compute():
        calls.append(1)
        return {"val/loss": 1.5, "val/rmse": 2.0}

    metrics = LateMetrics({"val/loss": 1.0}, ("val/loss", "val/rmse"), compute)
    assert list(metrics) == ["val/loss", "val/rmse"]
    assert metrics["val/loss"] == 1.0
    assert "val/loss" in repr(metrics)
    assert metrics.get("val/none") is None
    assert not calls
    assert dict(metrics) == {"val/loss": 1.0, "val/rmse": 2.0}
    assert dict(metrics) == {"val/loss": 1.0, "val/rmse": 2.0}
    assert len(calls) == 1
