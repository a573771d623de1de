"""Checkpoint files that a disk, a copy or a crash has damaged."""

import random

import pytest
import torch

from fault_tries import selected, tries
from recipe_processes import run_directories
from torchplug.errors import CheckpointError
from torchplug.tracking.checkpoint_file import read_checkpoint, write_checkpoint

COMMANDS = {
    "fit": ["fit", "--trainer.max_epochs", "5"],
    "validate": ["validate"],
    "test": ["test"],
    "predict": ["predict", "--output", "table.csv"],
}


@pytest.fixture
def checkpoint(tmp_path):
    """A small checkpoint file, of some kilobytes, and its bytes."""
    file = tmp_path / "some.ckpt"
    write_checkpoint({"weights": torch.arange(100.0), "names": ["a", "b"], "step": 3}, file)
    return file, file.read_bytes()


def _refused(file, content):
    file.write_bytes(content)
    try:
        read_checkpoint(file)
    except CheckpointError as error:
        return "\n" not in str(error)
    return False


@pytest.mark.fault("a bit of a checkpoint file is flipped")
@pytest.mark.parametrize("seed", tries(1, 20))
def test_a_flipped_bit(checkpoint, seed):
    file, whole = checkpoint
    for bit in random.Random(seed).sample(range(8 * len(whole)), 500):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert _refused(file, flipped), bit


@pytest.mark.fault("a bit in the last bytes of a checkpoint file is flipped")
@pytest.mark.parametrize("seed", tries(1, 4))
def test_a_flipped_bit_of_the_checksum_itself(checkpoint, seed):
    file, whole = checkpoint
    for bit in range(8 * (len(whole) - 103) + seed, 8 * len(whole), 4):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert _refused(file, flipped), bit


@pytest.mark.fault("a checkpoint file is truncated")
@pytest.mark.parametrize("seed", tries(1, 10))
def test_a_truncation(checkpoint, seed):
    file, whole = checkpoint
    lengths = {0, 1, 21, 22, 102, 103, len(whole) - 1, len(whole) - 64, len(whole) - 81, len(whole) - 103}
    lengths |= set(random.Random(seed).sample(range(len(whole)), 200))
    for length in sorted(lengths):
        assert _refused(file, whole[:length]), length


@pytest.mark.fault("bytes are appended to a checkpoint file, or zeros stand for its end")
@pytest.mark.parametrize("seed", tries(1, 10))
def test_other_bytes_at_the_end(checkpoint, seed):
    file, whole = checkpoint
    generator = random.Random(seed)
    for length in [1, 22, 64, 81, 4096, *generator.sample(range(1, len(whole)), 20)]:
        assert _refused(file, whole + bytes(length))
        assert _refused(file, whole[:-length] + bytes(length))


def _damage(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.fault("a run's last or best checkpoint is damaged")
@pytest.mark.parametrize("subcommand", selected(["fit", "predict", "test", "validate"], 2))
def test_the_intact_checkpoint_of_the_run_is_offered(run, tmp_path, subcommand):
    assert run(["fit", "--trainer.max_epochs", "2"])[0] == 0
    (directory,) = run_directories(tmp_path, "linear_regression")
    last, best = directory / "checkpoints" / "last.ckpt", directory / "checkpoints" / "best.ckpt"
    config = (directory / "config.yaml").read_text()
    for damaged, intact in ((last, best), (best, last)):
        kept = damaged.read_bytes()
        _damage(damaged)
        status, printed, errors = run([*COMMANDS[subcommand], "--ckpt_path", damaged.stem])
        assert (status, printed, errors.count("\n")) == (2, "", 1)
        flag = f"--ckpt_path {intact.relative_to(tmp_path)}"
        assert (
            f"is damaged: its content does not match its checksum; {intact.name} of the same run is intact: {flag}"
            in errors
        )
        damaged.write_bytes(kept)
    _damage(last)
    _damage(best)
    status, printed, errors = run([*COMMANDS[subcommand], "--ckpt_path", "last"])
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert "its run has no other that is intact" in errors
    assert (directory / "config.yaml").read_text() == config
    assert run_directories(tmp_path, "linear_regression") == [directory]
