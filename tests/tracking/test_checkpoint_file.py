import io
import json
import pickle
import zipfile

import pytest
import torch

from torchplug import ComponentModule
from torchplug.errors import CheckpointError
from torchplug.tracking.checkpoint_file import read_checkpoint, write_checkpoint

CONTENT = {
    "weights": torch.arange(1000.0),
    "steps": 3,
    "names": ["a", "größe"],
    "nested": {"half": torch.ones(3).half()},
}


def _same(left, right):
    return (
        left.keys() == right.keys()
        and torch.equal(left["weights"], right["weights"])
        and left["steps"] == right["steps"]
    )


def test_what_is_written_is_read(tmp_path):
    write_checkpoint(CONTENT, tmp_path / "a.ckpt")
    assert _same(read_checkpoint(tmp_path / "a.ckpt"), CONTENT)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


@pytest.mark.parametrize("options", [{}, {"mmap": True}, {"weights_only": False}])
def test_torch_reads_it_as_its_own(tmp_path, options):
    write_checkpoint(CONTENT, tmp_path / "a.ckpt")
    assert _same(torch.load(tmp_path / "a.ckpt", **{"weights_only": True, **options}), CONTENT)
    with (tmp_path / "a.ckpt").open("rb") as file:
        assert _same(torch.load(file, weights_only=True), CONTENT)


def test_lightning_reads_it_as_its_own(tmp_path):
    module = ComponentModule(torch.nn.Linear(3, 1), "huber", "sgd")
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.6.6",
    }
    module.on_save_checkpoint(content)
    write_checkpoint(content, tmp_path / "a.ckpt")
    again = ComponentModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True, model=torch.nn.Linear(3, 1))
    assert again.resolved.loss.name == "huber"
    assert all(torch.equal(value, content["state_dict"][name]) for name, value in again.state_dict().items())


def test_a_file_that_torch_wrote_alone_is_read(tmp_path):
    torch.save(CONTENT, tmp_path / "plain.ckpt")
    assert _same(read_checkpoint(tmp_path / "plain.ckpt"), CONTENT)
    written = bytearray((tmp_path / "plain.ckpt").read_bytes())
    written[written.index(torch.arange(1000.0).numpy().tobytes()) + 77] ^= 4
    (tmp_path / "plain.ckpt").write_bytes(written)
    with pytest.raises(CheckpointError, match=r"plain\.ckpt is damaged: its part '\w+/data/0' does not match"):
        read_checkpoint(tmp_path / "plain.ckpt")


def test_edited_content_is_saved_by_torch_alone_and_read(tmp_path):
    write_checkpoint(CONTENT, tmp_path / "a.ckpt")
    torch.save({**torch.load(tmp_path / "a.ckpt", weights_only=True), "steps": 4}, tmp_path / "b.ckpt")
    assert read_checkpoint(tmp_path / "b.ckpt")["steps"] == 4


def test_other_content_under_a_checksum_is_refused(tmp_path):
    write_checkpoint(CONTENT, tmp_path / "a.ckpt")
    write_checkpoint({**CONTENT, "steps": 4}, tmp_path / "b.ckpt")
    (tmp_path / "c.ckpt").write_bytes(
        (tmp_path / "a.ckpt").read_bytes()[:-64] + (tmp_path / "b.ckpt").read_bytes()[-64:]
    )
    with pytest.raises(CheckpointError, match=r"c\.ckpt is damaged: its content does not match its checksum"):
        read_checkpoint(tmp_path / "c.ckpt")


def _compressed(path):
    torch.save({"zeros": torch.zeros(10**6)}, buffer := io.BytesIO())
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))


def _overlapping(path):
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(20):
            archive.writestr("a", bytes(10**5))
            archive.fp.truncate(archive.fp.tell())
            archive.filelist[-1].header_offset = archive.filelist[0].header_offset
            archive.start_dir = archive.fp.seek(200 + 10**5)


@pytest.mark.parametrize("make", [_compressed, _overlapping])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_grows_when_it_is_read_is_refused(tmp_path, make):
    make(tmp_path / "bomb.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_checkpoint(tmp_path / "bomb.ckpt")


@pytest.mark.parametrize("variable", ["0", "1"])
def test_code_is_never_run(tmp_path, monkeypatch, variable):
    class Attack:
        def __reduce__(self):
            return (exec, ("raise SystemExit('executed')",))

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", variable)
    write_checkpoint({"a": Attack()}, tmp_path / "a.ckpt")
    torch.save({"function": json.dumps}, tmp_path / "b.ckpt")
    (tmp_path / "c.ckpt").write_bytes(pickle.dumps(Attack()))
    for name in "abc":
        with pytest.raises(CheckpointError, match=f"{name}.ckpt cannot be read as a checkpoint"):
            read_checkpoint(tmp_path / f"{name}.ckpt")


def test_a_file_that_is_not_there_or_holds_something_else(tmp_path):
    torch.save([1], tmp_path / "list.ckpt")
    with pytest.raises(CheckpointError, match="it holds a list"):
        read_checkpoint(tmp_path / "list.ckpt")
    with pytest.raises(CheckpointError, match=r"none\.ckpt cannot be read \(No such file or directory\)"):
        read_checkpoint(tmp_path / "none.ckpt")
