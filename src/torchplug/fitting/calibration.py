"""Calibration at the end of a fit, on the validation split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from torchplug.checkpoint_record import CALIBRATION, KEY
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.evaluation.calibration import Calibration
from torchplug.module import ComponentModule


def refuse_without_validation(module: ComponentModule, data: TabularData) -> None:
    """Refuse to calibrate where nothing validates.

    Args:
        module: to be trained.
        data: prepared.

    Raises:
        ConfigurationError: naming the remedy.
    """
    if module.calibrate and not data.sizes["validation"]:
        raise ConfigurationError(
            "calibrate needs validation rows, and there are none: give --data.split a second ratio, or "
            "--data.validation"
        )


def calibrate(module: ComponentModule, data: TabularData) -> None:
    """Calibrate a trained module on the whole validation split, on this rank alone; nothing without validation rows.

    Args:
        module: trained, on the CPU.
        data: prepared for it.
    """
    if data.sizes.get("validation"):
        module.calibrate_on(data.all_batches("validation"))


def calibrate_checkpoint(
    module: ComponentModule, data: TabularData, file: Path, checkpoint_io: CheckpointIO
) -> Calibration | None:
    """Calibrate the model of a run's checkpoint, and keep the calibration in it; nothing where there is no such file.

    A process that is killed before leaves a run without an outcome: when it is resumed, it comes here again.

    Args:
        module: of the run; it is left as it is.
        data: prepared for it.
        file: the checkpoint.
        checkpoint_io: reads and writes it, as it did in the fit.

    Returns:
        The calibration; None where there is no validation row, or no checkpoint.

    Raises:
        WriteError: if the file cannot be written; the checkpoint is then unchanged.
    """
    if not file.is_file() or not data.sizes["validation"]:
        return None
    content = checkpoint_io.load_checkpoint(file)
    with holding(module, content["state_dict"]):
        calibrate(module, data)
        calibration = module.calibration
    assert calibration is not None, "there are validation rows"
    content[KEY][CALIBRATION] = calibration.state()
    checkpoint_io.save_checkpoint(content, file)
    checkpoint_io.teardown()  # one that writes in a thread of its own waits for it
    return calibration


@contextmanager
def holding(module: ComponentModule, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Give a module the parameters of a checkpoint within the block."""
    own, calibration = {name: value.clone() for name, value in module.state_dict().items()}, module.calibration
    module.load_state_dict(state)
    try:
        yield
    finally:
        module.load_state_dict(own)
        module.calibration = calibration
