"""The file format of checkpoints: what `torch.save` writes, with a checksum of the whole file at its end.

`torch.save` writes a ZIP archive. Its end record may carry a comment, which `torch.load` skips: here
`torchplug sha256 <64 hexadecimal digits>`, the digest of every byte before the digits. An archive without
a comment is one that `torch.save` wrote alone; its parts have checksums of 32 bits.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from torchplug.errors import CheckpointError
from torchplug.tracking.whole_files import whole_file

_LABEL = b"torchplug sha256 "
_DIGITS = 64
_LENGTH = struct.pack("<H", len(_LABEL) + _DIGITS)
_NO_COMMENT = struct.pack("<H", 0)
_END = b"PK\x05\x06"
_END_SIZE = 22
_BLOCK = 1 << 20

_FOREIGN = "it is damaged, or torchplug did not write it"


def write_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint with its checksum, atomically.

    Args:
        content: plain types and tensors, so that `torch.load(path, weights_only=True)` reads it.
        path: the file.

    Raises:
        WriteError: if the file cannot be written; a previous file is unchanged.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    archive = buffer.getbuffer()
    if archive[-_END_SIZE:][:4] != _END or archive[-2:] != _NO_COMMENT:
        raise AssertionError("torch.save wrote something after the archive's end record")
    archive[-2:] = _LENGTH
    digest = hashlib.sha256(archive)
    digest.update(_LABEL)
    with whole_file(path) as file:
        file.write(archive)
        file.write(_LABEL + digest.hexdigest().encode())


def read_checkpoint(path: str | Path, map_location: Any = "cpu", weights_only: bool = True) -> dict[str, Any]:
    """Verify a checkpoint's checksum and load it, tensors mapped into memory.

    Args:
        path: a file of `write_checkpoint` or `torch.save`.
        map_location: the device of tensors, as for `torch.load`.
        weights_only: False also loads arbitrary objects, which may run code: for trusted files only.

    Raises:
        CheckpointError: if the file cannot be read, is damaged, or holds no mapping.
    """
    try:
        with Path(path).open("rb") as file:
            _verify(file, path)
        content = torch.load(path, map_location=map_location, weights_only=weights_only, mmap=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # torch and zipfile raise many kinds
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({type(error).__name__}): {_FOREIGN}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} was not written by torchplug: it holds a {type(content).__name__}")
    return content


def _verify(file: BinaryIO, path: str | Path) -> None:
    """Refuse a file whose bytes have changed, or that would expand when it is read."""
    size = file.seek(0, io.SEEK_END)
    file.seek(-min(size, _END_SIZE + len(_LABEL) + _DIGITS), io.SEEK_END)
    tail = file.read()
    before, label, digits = tail[: -len(_LABEL) - _DIGITS], tail[:-_DIGITS][-len(_LABEL) :], tail[-_DIGITS:]
    plain = tail[-_END_SIZE:][:4] == _END and tail[-2:] == _NO_COMMENT
    summed = before[:4] == _END and before[-2:] == _LENGTH and label == _LABEL
    if summed:
        if _digest(file, size - _DIGITS) != digits:
            raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    elif not plain:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {_FOREIGN}")
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or sum(p.file_size for p in parts) > size:
            raise CheckpointError(f"{path} cannot be read as a checkpoint: {_FOREIGN}")
        if not summed and (broken := archive.testzip()):
            raise CheckpointError(f"{path} is damaged: its part {broken!r} does not match its checksum")


def _digest(file: BinaryIO, size: int) -> bytes:
    """The SHA-256 of a file's first bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (block := file.read(min(size, _BLOCK))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()
