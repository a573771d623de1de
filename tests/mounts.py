"""Small and read-only file systems, where this machine lets a test mount them."""

import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def small_disk(folder, kilobytes):
    """Mount a file system of that size on a folder; the test is skipped where that is not allowed."""
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder)
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def read_only(folder):
    """Make a folder with all in it read-only, for root as well; the test is skipped where that is not allowed."""
    _mount("--bind", folder, folder)
    try:
        _mount("-o", "remount,bind,ro", folder)
        yield folder
    finally:
        _unmount(folder)


def fill(folder, left=0):
    """Fill a disk, but for `left` bytes."""
    file = folder / "filling"
    with file.open("wb", buffering=0) as writing:
        try:
            while writing.write(bytes(4096)):
                pass
        except OSError:
            writing.truncate(file.stat().st_size - left)
    return file


def _mount(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {' '.join(done.stderr.split())}")


def _unmount(folder):
    # a process that was killed may still hold the folder for a moment
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)
