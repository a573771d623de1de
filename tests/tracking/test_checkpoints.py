import json
import logging
import zipfile

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from torchplug.errors import CheckpointError
from torchplug.tracking.checkpoints import checkpoint_callbacks, load_checkpoint, newest, resolve_checkpoint
from torchplug.tracking.run import Run


class Scripted(LightningModule):
    """Its validation loss follows a script, so that the best epoch is known."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, index):
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, index):
        self.log("val/loss", self.losses[self.current_epoch])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["torchplug"] = {"version": "0"}


@pytest.fixture
def fit(tmp_path):
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    def run(losses, monitor="val/loss", mode="min"):
        directory = Run.create("mlp", tmp_path)
        data = DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=len(losses),
            callbacks=checkpoint_callbacks(directory, monitor, mode),
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(Scripted(losses), data, data if monitor else None)
        return directory

    return run


def _epoch(path):
    return torch.load(path, weights_only=True)["epoch"]


def _touch(directory, *names):
    directory.checkpoints.mkdir(parents=True)
    for name in names:
        torch.save({"torchplug": {"name": name}}, directory.checkpoints / f"{name}.ckpt")
    return directory


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec.*is deprecated")
@pytest.mark.parametrize(("mode", "best"), [("min", 1), ("max", 2)])
def test_best_and_last_are_two_files_however_often_they_change(fit, mode, best):
    directory = fit([3.0, 1.0, 4.0, 2.0], mode=mode)
    assert sorted(path.name for path in directory.checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert (_epoch(directory.best), _epoch(directory.last)) == (best, 3)


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec.*is deprecated")
def test_of_equally_good_models_the_last_is_kept(fit):
    assert _epoch(fit([3.0, 1.0, 1.0, 2.0]).best) == 2


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec.*is deprecated")
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")
def test_without_validation_only_the_last_is_kept(fit):
    directory = fit([0.0, 0.0], monitor=None)
    assert [path.name for path in directory.checkpoints.iterdir()] == ["last.ckpt"]
    assert _epoch(directory.last) == 1


def test_words_mean_the_newest_run_that_has_a_checkpoint(tmp_path):
    _touch(Run.create("mlp", tmp_path), "best", "last")
    wanted = _touch(Run(tmp_path / "mlp" / "30000101-000000.000-aaaaaa"), "best", "last")
    Run(tmp_path / "mlp" / "30010101-000000.000-aaaaaa").path.mkdir()  # interrupted in its first epoch
    _touch(Run(tmp_path / "linear" / "40000101-000000.000-aaaaaa"), "best", "last")
    assert newest("mlp", tmp_path).path == wanted.path
    assert resolve_checkpoint("best", "mlp", tmp_path) == wanted.best
    assert resolve_checkpoint("last", "mlp", tmp_path) == wanted.last


def test_a_run_directory_means_its_best_else_its_last(tmp_path):
    both = _touch(Run(tmp_path / "a"), "best", "last")
    only = _touch(Run(tmp_path / "b"), "last")
    assert resolve_checkpoint(str(both.path), "mlp") == both.best
    assert resolve_checkpoint(str(only.path), "mlp") == only.last


def test_a_file_is_itself_and_comes_back_absolute(tmp_path, monkeypatch):
    _touch(Run(tmp_path), "best").best.rename(tmp_path / "best")
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint("./best", "mlp") == tmp_path / "best"


def test_best_of_a_run_that_validated_nothing_says_what_there_is(tmp_path):
    _touch(Run.create("mlp", tmp_path), "last")
    with pytest.raises(CheckpointError, match=r"has no best checkpoint: ask for last"):
        resolve_checkpoint("best", "mlp", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best", "no run of mlp in .* has a checkpoint: fit first"),
        ("last", "no run of mlp in .* has a checkpoint: fit first"),
        ("nowhere.ckpt", "there is no checkpoint nowhere.ckpt: name a file"),
        ("empty", "no run directory with a checkpoint"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=message) as caught:
        resolve_checkpoint(text, "mlp", tmp_path / "runs")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("noise.ckpt", "cannot be read as a checkpoint.*damaged"),
        ("void.ckpt", "cannot be read as a checkpoint.*damaged"),
        ("cut.ckpt", "cannot be read as a checkpoint.*damaged"),
        ("code.ckpt", "cannot be read as a checkpoint.*damaged"),
        ("zip.ckpt", "cannot be read as a checkpoint.*damaged"),
        ("tensor.ckpt", "not written by torchplug"),
        ("foreign.ckpt", "not written by torchplug"),
    ],
)
@pytest.mark.parametrize("resume", [True, False])
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, name, message, resume):
    (tmp_path / "noise.ckpt").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "void.ckpt").touch()
    torch.save({"torchplug": {}, "weight": torch.ones(1000)}, tmp_path / "whole.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "whole.ckpt").read_bytes()[:2000])
    torch.save({"torchplug": {}, "function": json.dumps}, tmp_path / "code.ckpt")
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("a", "b")
    torch.save(torch.ones(2), tmp_path / "tensor.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(tmp_path / name, resume)
    assert "\n" not in str(caught.value)
