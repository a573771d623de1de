import errno
import os
import subprocess
import sys

import pytest

from torchplug.errors import TorchplugError, WriteError
from torchplug.tracking import whole_files
from torchplug.tracking.whole_files import append_line, whole_file


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def _write_and_raise(file, error):
    file.write(b"new")
    raise error


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    (tmp_path / "a").write_text("old")
    with whole_file(tmp_path / "a") as file:
        file.write(b"new")
        file.flush()
        assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "a").read_text() == "new"
    assert _names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), whole_file(tmp_path / "a") as file:
        _write_and_raise(file, error)
    assert (tmp_path / "a").read_text() == "old"
    assert _names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "No space left on device); free space on its disk; what it held before is unchanged"),
        (errno.EDQUOT, "Disk quota exceeded); free space, or have the quota raised; what"),
        (errno.EROFS, "Read-only file system); make its folder writable; what"),
        (errno.EIO, "Input/output error); what it held before is unchanged"),
    ],
)
@pytest.mark.parametrize("call", [(whole_files.os, "fsync"), (whole_files.Path, "replace")], ids=["fsync", "replace"])
def test_a_disk_that_refuses_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch, number, remedy, call):
    (tmp_path / "a").write_text("old")

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*call, refuse)
    with pytest.raises(WriteError) as caught, whole_file(tmp_path / "a") as file:
        file.write(b"new")
    assert str(caught.value).startswith(f"{tmp_path / 'a'} cannot be written ({remedy}")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TorchplugError)
    assert caught.value.exit_status == 3
    assert (tmp_path / "a").read_text() == "old"
    assert _names(tmp_path) == ["a"]


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "a")
    with whole_file(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "a").read_text() == "new"


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [f".a.{ended.pid}.part", f".a.{os.getpid()}.part"]
    kept = [f".a.{os.getppid()}.part", f".b.{ended.pid}.part", ".a.notes.part"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    with whole_file(tmp_path / "a"):
        pass
    assert _names(tmp_path) == sorted(["a", *kept])


def test_a_line_that_does_not_fit_is_not_left_in_part(tmp_path, monkeypatch):
    append_line(tmp_path / "rows", "first\n")
    write = os.write
    calls = []

    def nearly_full(descriptor, data):
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:3])

    monkeypatch.setattr(whole_files.os, "write", nearly_full)
    with pytest.raises(WriteError, match="No space left on device"):
        append_line(tmp_path / "rows", "second\n")
    assert (tmp_path / "rows").read_text() == "first\n"


def test_a_line_that_is_written_in_pieces_is_whole(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(whole_files.os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    append_line(tmp_path / "rows", "second\n")
    assert (tmp_path / "rows").read_text() == "second\n"
