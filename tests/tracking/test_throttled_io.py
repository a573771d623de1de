import pickle

import pytest
import torch

from torchplug.errors import CheckpointError, WriteError
from torchplug.tracking import checkpoint_io
from torchplug.tracking.checkpoint_file import read_checkpoint
from torchplug.tracking.throttled_io import COPY_SECONDS, INTERVAL_SECONDS, ThrottledCheckpointIO


class Clock:
    now = 5.0

    def __call__(self):
        return self.now

    def wait(self, intervals=1.0):
        self.now += intervals * INTERVAL_SECONDS


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def io(tmp_path, clock):
    return ThrottledCheckpointIO([tmp_path / "best.ckpt", tmp_path / "last.ckpt"], clock)


@pytest.fixture
def written(monkeypatch):
    """The names of files, in the order in which they were written."""
    names, write = [], checkpoint_io.write_checkpoint

    def noted(content, path):
        names.append(path.name)
        write(content, path)

    monkeypatch.setattr(checkpoint_io, "write_checkpoint", noted)
    return names


def epoch(path):
    return read_checkpoint(path)["epoch"] if path.exists() else None


def test_a_file_is_written_once_per_interval(tmp_path, io, clock, written):
    for number in range(36):
        io.save_checkpoint({"epoch": number}, tmp_path / "last.ckpt")
        clock.wait(1 / 8)
    assert (len(written), epoch(tmp_path / "last.ckpt")) == (4, 32)
    io.stop_waiting()
    assert epoch(tmp_path / "last.ckpt") == 35


def test_both_files_are_written_together_and_the_best_first(tmp_path, io, clock, written):
    for number in range(30):
        io.save_checkpoint({"epoch": number}, tmp_path / "best.ckpt")
        io.save_checkpoint({"epoch": number}, tmp_path / "last.ckpt")
        clock.wait(0.13)
        assert epoch(tmp_path / "best.ckpt") == epoch(tmp_path / "last.ckpt")
    assert written == ["best.ckpt", "last.ckpt"] * 3


def test_slow_epochs_are_written_at_once(tmp_path, io, clock):
    for number in range(3):
        clock.wait(1.5)
        io.save_checkpoint({"epoch": number}, tmp_path / "best.ckpt")
        assert epoch(tmp_path / "best.ckpt") == number
        clock.wait(0.01)
        io.save_checkpoint({"epoch": number}, tmp_path / "last.ckpt")
        assert epoch(tmp_path / "last.ckpt") == number


def test_a_best_that_waits_is_written_before_a_last_that_is_due(tmp_path, io, clock, written):
    clock.wait(0.9)
    io.save_checkpoint({"epoch": 0}, tmp_path / "best.ckpt")
    clock.wait(0.2)
    io.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert (written, epoch(tmp_path / "best.ckpt")) == (["best.ckpt", "last.ckpt"], 0)


def test_a_best_that_is_due_does_not_delay_the_last(tmp_path, io, clock):
    io.save_checkpoint({"epoch": 0}, tmp_path / "last.ckpt")
    clock.wait(1.1)
    io.save_checkpoint({"epoch": 1}, tmp_path / "best.ckpt")
    io.save_checkpoint({"epoch": 1}, tmp_path / "last.ckpt")
    assert (epoch(tmp_path / "best.ckpt"), epoch(tmp_path / "last.ckpt")) == (1, 1)


def test_a_state_can_be_skipped_for_a_while_after_another_was_saved(tmp_path, io, clock):
    last = tmp_path / "last.ckpt"
    assert not io.can_skip(last)
    io.save_checkpoint({"epoch": 0}, last)
    assert io.can_skip(last)
    assert not io.can_skip(tmp_path / "best.ckpt")
    assert not io.can_skip(tmp_path / "own.ckpt")
    clock.wait(0.9 * COPY_SECONDS)
    assert io.can_skip(last)
    clock.wait(0.2 * COPY_SECONDS)
    assert not io.can_skip(last)


def test_a_state_that_would_be_written_cannot_be_skipped(tmp_path, io, clock):
    last = tmp_path / "last.ckpt"
    clock.wait(0.95)
    io.save_checkpoint({"epoch": 0}, last)
    clock.wait(0.04)
    assert io.can_skip(last)
    clock.wait(0.02)
    assert not io.can_skip(last)
    io.save_checkpoint({"epoch": 1}, last)
    assert io.can_skip(last)
    io.stop_waiting()
    assert not io.can_skip(last)


@pytest.mark.parametrize("end", ["write_waiting", "stop_waiting", "teardown"])
def test_what_waits_is_written_as_it_was_saved(tmp_path, io, written, end):
    weight = torch.zeros(3)
    io.save_checkpoint({"epoch": 0, "weight": weight}, tmp_path / "last.ckpt")
    weight += 1
    io.save_checkpoint({"epoch": 1, "weight": weight}, str(tmp_path / "best.ckpt"))
    weight += 1
    assert written == []
    getattr(io, end)()
    assert written == ["best.ckpt", "last.ckpt"]
    assert read_checkpoint(tmp_path / "last.ckpt")["weight"].tolist() == [0.0] * 3
    assert read_checkpoint(tmp_path / "best.ckpt")["weight"].tolist() == [1.0] * 3
    getattr(io, end)()
    assert len(written) == 2


def test_after_the_end_files_are_written_at_once(tmp_path, io):
    io.stop_waiting()
    io.save_checkpoint({"epoch": 0}, tmp_path / "last.ckpt")
    assert epoch(tmp_path / "last.ckpt") == 0


def test_other_files_are_written_at_once(tmp_path, io):
    io.save_checkpoint({"epoch": 0}, tmp_path / "own.ckpt")
    assert epoch(tmp_path / "own.ckpt") == 0


def test_a_file_is_known_by_the_folder_that_a_link_leads_to(tmp_path, clock):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    io = ThrottledCheckpointIO([tmp_path / "link" / "last.ckpt"], clock)
    io.save_checkpoint({"epoch": 0}, tmp_path / "link" / "last.ckpt")
    io.save_checkpoint({"epoch": 1}, tmp_path / "real" / "last.ckpt")
    assert list((tmp_path / "real").iterdir()) == []
    io.stop_waiting()
    assert epoch(tmp_path / "real" / "last.ckpt") == 1


def test_reading_finds_what_was_saved(tmp_path, io):
    io.save_checkpoint({"epoch": 0}, tmp_path / "last.ckpt")
    assert io.load_checkpoint(tmp_path / "last.ckpt") == {"epoch": 0}
    with pytest.raises(CheckpointError, match="cannot be read"):
        io.load_checkpoint(tmp_path / "best.ckpt")


def test_what_refers_to_a_file_that_cannot_be_written_is_not_written(tmp_path, io):
    (tmp_path / "best.ckpt").mkdir()
    io.save_checkpoint({"epoch": 0}, tmp_path / "best.ckpt")
    io.save_checkpoint({"epoch": 0}, tmp_path / "last.ckpt")
    with pytest.raises(WriteError, match=r"best.ckpt cannot be written"):
        io.write_waiting()
    io.teardown()  # as the trainer's end does
    assert not (tmp_path / "last.ckpt").exists()


def saved(number):
    return {"epoch": number, "weight": torch.full((2,), number)}


class Interrupting:
    """Something whose copying is interrupted."""

    def __deepcopy__(self, memo):
        raise KeyboardInterrupt


def test_an_interruption_while_a_copy_is_made_leaves_whole_what_was_saved_before(tmp_path, io):
    for number in range(3):
        io.save_checkpoint(saved(number), tmp_path / "last.ckpt")
    with pytest.raises(KeyboardInterrupt):
        io.save_checkpoint({**saved(3), "callbacks": Interrupting()}, tmp_path / "last.ckpt")
    io.stop_waiting()
    found = read_checkpoint(tmp_path / "last.ckpt")
    assert (found["epoch"], found["weight"].tolist()) == (2, [2, 2])


def test_a_writing_that_was_interrupted_is_repeated_at_the_end(tmp_path, io, clock, monkeypatch):
    def interrupt(content, path):
        raise KeyboardInterrupt

    clock.wait()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_io, "write_checkpoint", interrupt)
        with pytest.raises(KeyboardInterrupt):
            io.save_checkpoint(saved(0), tmp_path / "last.ckpt")
    io.stop_waiting()
    assert epoch(tmp_path / "last.ckpt") == 0


def test_it_can_be_sent_to_another_process(tmp_path):
    io = pickle.loads(pickle.dumps(ThrottledCheckpointIO([tmp_path / "last.ckpt"])))
    io.save_checkpoint({"epoch": 0}, tmp_path / "last.ckpt")
    io.teardown()
    assert epoch(tmp_path / "last.ckpt") == 0
