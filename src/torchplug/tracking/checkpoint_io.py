"""Lightning's interface to checkpoint files with checksums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from typing_extensions import override

from torchplug.tracking.checkpoint_file import read_checkpoint, write_checkpoint
from torchplug.tracking.whole_files import write_error


class ChecksummedCheckpointIO(TorchCheckpointIO):
    """A `CheckpointIO` that writes files atomically and verifies them when it reads them.

    Remote paths (`s3://…`) are left to Lightning.

    Example:
        >>> import lightning
        >>> trainer = lightning.Trainer(plugins=[ChecksummedCheckpointIO()], logger=False, enable_checkpointing=False)
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            WriteError: if the file cannot be written; a previous file is unchanged.
        """
        if storage_options is not None or _remote(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        folder = Path(path).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        write_checkpoint(checkpoint, path)

    @override
    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, _: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; objects other than plain types and tensors only if `weights_only` is False.

        Raises:
            CheckpointError: if the file is missing or damaged.
        """
        if _remote(path):
            return super().load_checkpoint(path, map_location, weights_only)
        return read_checkpoint(path, map_location, weights_only=weights_only is not False)


def _remote(path: str | Path) -> bool:
    return "://" in str(path)
