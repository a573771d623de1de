"""The lines at the end of a fit that say how sure its predictions are."""

from __future__ import annotations

from torchplug.errors import ConfigurationError
from torchplug.evaluation.calibration import Calibration
from torchplug.evaluation.residuals import Residuals
from torchplug.evaluation.temperature import Temperature
from torchplug.module import ComponentModule
from torchplug.tables import enumerate_names

_LEVEL = 0.9


def how_sure(module: ComponentModule, calibration: Calibration | None) -> list[str]:
    """The width of intervals; the temperature, if it is used.

    Args:
        module: which was trained.
        calibration: of its checkpoint, if there is one.
    """
    if calibration is None or module.preprocessing is None:
        return []
    if calibration.residuals is not None:
        return _width(calibration.residuals, module.preprocessing.info.columns)
    return [_scaled(calibration.temperature)] if module.calibrate and calibration.temperature is not None else []


def _width(residuals: Residuals, columns: tuple[str, ...]) -> list[str]:
    """How wide intervals are; nothing where there are too few rows."""
    try:
        widths = residuals.half_widths(_LEVEL).tolist()
    except ConfigurationError:
        return []
    shown = enumerate_names(f"{name} ± {width:.4g}" for name, width in zip(columns, widths, strict=True))
    return [f"90 % intervals, by {residuals.rows} validation rows: {shown} (predict --interval {_LEVEL})"]


def _scaled(temperature: Temperature) -> str:
    if not temperature.found:
        return (
            f"temperature 1: no other has the smallest log loss on the {temperature.rows} validation rows, whose "
            "classes the scores do not follow"
        )
    before, after = temperature.log_loss
    changes = [f"log loss {before:.4g} → {after:.4g}"]
    if temperature.calibration_error is not None:
        before, after = temperature.calibration_error
        changes.append(f"calibration error {before:.4g} → {after:.4g}")
    return f"temperature {temperature.value:.4g}, by {temperature.rows} validation rows: {', '.join(changes)}"
