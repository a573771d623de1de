import json
import math
import os
import pickle
import socket
import sys
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, loggers
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader, TensorDataset

from torchplug.tracking import wandb as tracking
from torchplug.tracking.checkpoints import checkpoint_callbacks
from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.wandb import WandbLogger, wandb_logger

KEY = "0" * 40
CONFIG = {"model": {"optimizer": {"name": "adam", "parameters": {"lr": 0.1}}, "hidden": [64, 64]}, "seed": 1}
PROVENANCE = {"torch": "2", "plugins": [{"distribution": "torchplug", "version": "0"}]}
DIRECTIONS = {"loss": "min", "accuracy": "max"}


@pytest.fixture
def run(tmp_path):
    return Run.create("mlp", tmp_path / "runs")


@pytest.fixture
def start(run, wandb_home):
    """Make the logger of a run, which is finished whatever the test does."""
    made = []

    def make(**settings):
        made.append(wandb_logger(Tracking(**settings), run, CONFIG, PROVENANCE, DIRECTIONS))
        return made[-1]

    yield make
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in made:
            if logger is not None:
                logger.finish()


def _log(logger, *steps):
    for step in steps:
        logger.log_metrics({"a": step / 3}, step)


def _rows(run):
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.save_hyperparameters({"unwanted": 1})

    def training_step(self, batch, index):
        loss = self.layer(batch[0]).square().mean()
        self.log("train/loss", loss)
        self.log("train/gradient_norm", torch.rand((), dtype=torch.float64))
        return loss

    def validation_step(self, batch, index):
        self.log("val/loss", (self.layer(batch[0]).double() - 0.1).square().mean())
        self.log("val/accuracy", torch.rand((), dtype=torch.float64))
        self.log("val/auroc", math.nan)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["torchplug"] = {}


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec.*is deprecated")
def test_a_whole_run_reads_back_as_it_was_logged(run, start, recorded, capsys):
    logger = start(
        mode="offline", project="study", group="g", tags=["a", "b"], name="first", id="abc123", log_checkpoint=True
    )
    data = DataLoader(TensorDataset(torch.randn(24, 2)), batch_size=4)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=4,
        logger=[JsonlLogger(run), logger],
        callbacks=[LearningRateMonitor("step"), *checkpoint_callbacks(run, "val/loss")],
        log_every_n_steps=2,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Module(), data, data)
    logger.finish()

    seen = recorded(run.path)
    shown = seen.run()
    rows = _rows(run)
    assert seen.rows == rows
    assert {"lr-SGD", "train/gradient_norm", "val/accuracy", "val/auroc"} <= {name for row in rows for name in row}
    assert shown["config"] == {
        "model/optimizer": "adam",
        "model/optimizer/lr": 0.1,
        "model/hidden": [64, 64],
        "seed": 1,
        "provenance": PROVENANCE,
    }
    loss = [row["val/loss"] for row in rows if "val/loss" in row]
    accuracy = [row["val/accuracy"] for row in rows if "val/accuracy" in row]
    assert len(loss) == 4
    assert shown["summary"]["val/loss"] == {"min": min(loss), "last": loss[-1]}
    assert shown["summary"]["val/accuracy"] == {"max": max(accuracy), "last": accuracy[-1]}
    assert shown["summary"]["lr-SGD"] == 0.1
    assert (shown["project"], shown["name"], shown["run_id"]) == ("study", "first", "abc123")
    (header,) = seen.of("run")
    assert (header["run_group"], header["tags"]) == ("g", ["a", "b"])
    (artifact,) = seen.of("artifact")
    assert (artifact["name"], artifact["type"], set(artifact["aliases"])) == ("mlp-abc123", "model", {"best", "latest"})
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"wandb: offline; send this run with: wandb sync {os.path.relpath(seen.file.parent)}"
    ]
    assert "wandb" not in printed.err


def test_training_does_not_wait_for_the_run_and_no_row_is_lost(run, start, recorded, monkeypatch):
    import wandb

    slow, init = threading.Event(), wandb.init

    def waiting(**settings):
        assert slow.wait(timeout=30)
        return init(**settings)

    monkeypatch.setattr(wandb, "init", waiting)
    logger = start(mode="offline", id="abc123")
    begun = logger.experiment  # as a Trainer asks for it when a fit starts
    _log(logger, 0, 1)
    slow.set()
    assert begun.id == "abc123"
    assert logger.experiment.id == "abc123"
    _log(logger, 2)
    logger.finish()
    assert [(row["step"], row["a"]) for row in recorded(run.path).rows] == [(0, 0.0), (1, 1 / 3), (2, 2 / 3)]


def test_a_job_that_ends_before_the_run_has_begun_loses_no_row(run, start, recorded):
    logger = start(mode="offline")
    _ = logger.experiment
    _log(logger, 0, 1, 2)
    logger.finish()
    assert [row["a"] for row in recorded(run.path).rows] == [0.0, 1 / 3, 2 / 3]


def test_a_client_that_fails_meanwhile_is_one_warning(start, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = start(mode="offline")

    def job():
        begun = logger.experiment
        _log(logger, 0, 1)
        begun.anything(1)
        _log(logger, 2)
        logger.finish()
        begun.anything(1)

    with pytest.warns(UserWarning, match="not tracked; metrics.jsonl has everything") as caught:
        job()
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("name", "best"),
    [
        *[("train/loss", "min"), ("test/loss", "min"), ("val/accuracy", "max")],
        *[("train/gradient_norm", None), ("lr-Adam", None), ("epoch", None)],
    ],
)
def test_best_is_the_smallest_loss_and_the_largest_score(name, best):
    class Recorder:
        defined = None

        def define_metric(self, name, summary, **settings):
            self.defined = (name, summary)

    run = Recorder()
    WandbLogger(Tracking(), Run("."), {}, DIRECTIONS)._define(run, name)
    assert run.defined == (None if best is None else (name, f"{best},last"))


def test_disabled_imports_no_wandb_and_makes_nothing(run, start, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would fail
    assert start(mode="disabled") is None
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert start(mode="auto") is None
    assert list(run.path.iterdir()) == []


def test_other_ranks_never_touch_it(run, start, monkeypatch):
    logger = start(mode="offline")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger.experiment.log({"a": 1.0})
    logger.log_metrics({"a": 1.0}, 0)
    logger.finish()
    assert list(run.path.iterdir()) == []


def test_callbacks_that_look_for_lightnings_logger_find_it(start):
    assert isinstance(start(mode="offline"), loggers.WandbLogger)


def test_auto_is_offline_where_nobody_is_logged_in(run, start, recorded):
    logger = start()
    logger.log_metrics({"a": 1 / 3}, 5)
    logger.finish()
    assert recorded(run.path).rows == [{"step": 5, "epoch": None, "a": 1 / 3}]


def test_auto_obeys_the_environment(start, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert start().experiment.offline


def test_online_without_a_login_warns_and_goes_offline(start):
    with pytest.warns(UserWarning, match="wandb is not logged in: call `wandb login`"):
        assert start(mode="online").experiment.offline


def test_a_key_that_cannot_be_one_warns_and_goes_offline(start, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    with pytest.warns(UserWarning, match="logging in failed"):
        assert start().experiment.offline


@pytest.fixture
def silent_server():
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("where", ["refused", "silent"])
def test_a_server_that_cannot_be_reached_warns_once_and_goes_offline(
    run, start, recorded, silent_server, monkeypatch, where
):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9" if where == "refused" else silent_server)
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "2")
    logger = start()
    with pytest.warns(UserWarning, match="tracked offline, because logging in failed") as caught:
        _log(logger, 0, 1, 2)
    assert len(caught) == 1
    logger.finish()
    assert [row["a"] for row in recorded(run.path).rows] == [0.0, 1 / 3, 2 / 3]


def test_a_server_that_falls_silent_after_the_login_warns_and_goes_offline(start, silent_server, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", silent_server)
    monkeypatch.setattr(wandb, "login", lambda **settings: True)
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2.0)
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 2.0)
    with pytest.warns(UserWarning, match="the server did not accept it"):
        assert start().experiment.offline


def test_a_client_that_cannot_even_start_is_one_warning(start, monkeypatch):
    import wandb

    def broken(**settings):
        raise OSError("no space left")

    monkeypatch.setattr(wandb, "init", broken)
    logger = start(mode="offline")
    with pytest.warns(UserWarning, match="not tracked; metrics.jsonl has everything .OSError: no space left") as caught:
        _log(logger, 0, 1, 2)
    assert len(caught) == 1
    logger.experiment.anything(1)
    logger.finish()


def test_a_client_that_cannot_be_imported_is_one_warning(start, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = start(mode="online")
    with pytest.warns(UserWarning, match="not tracked; metrics.jsonl has everything .ModuleNotFoundError") as caught:
        _log(logger, 0, 1)
    assert len(caught) == 1


def test_a_logger_that_a_spawned_process_gets_continues_the_same_run(run, start, recorded, monkeypatch):
    import wandb

    monkeypatch.setattr(wandb, "run", None)  # attaching sets it, here in the same process
    logger = start(mode="offline")
    _log(logger, 0)
    _log(pickle.loads(pickle.dumps(logger)), 1)
    logger.finish()
    assert [row["a"] for row in recorded(run.path).rows] == [0.0, 1 / 3]


def test_a_failure_on_the_way_is_one_warning_and_what_was_logged_is_kept(run, start, recorded, monkeypatch):
    logger = start(mode="offline")
    logger.log_metrics({"a": 1.0}, 0)

    def disconnected(*arguments, **settings):
        raise BrokenPipeError("the service is gone\nfor good")

    monkeypatch.setattr(logger.experiment, "log", disconnected)
    with pytest.warns(UserWarning, match="stopped at step 1, training goes on .*gone for good") as caught:
        _log(logger, 1, 2, 3)
    assert len(caught) == 1
    logger.finish()
    assert recorded(run.path).rows == [{"step": 0, "epoch": None, "a": 1.0}]


def test_a_service_that_was_killed_does_not_stop_training(start, monkeypatch):
    import wandb

    logger = start(mode="offline")
    logger.log_metrics({"a": 1.0}, 0)
    service = wandb.setup()._connection._proc._process
    service.kill()
    service.wait()
    with pytest.warns(UserWarning, match="Weights & Biases: logging stopped"):
        _log(logger, *range(1, 200))
    with pytest.warns(UserWarning, match="not everything was sent; try again with: wandb sync"):
        logger.finish()


def test_auto_is_online_where_somebody_is_logged_in(start, wandb_server, capsys):
    logger = start(id="abc123")
    _log(logger, 0, 1, 2)
    assert not logger.experiment.offline
    logger.finish()
    assert wandb_server.runs == {"abc123"}
    assert [(row["trainer/global_step"], row["a"]) for row in wandb_server.rows] == [(0, 0.0), (1, 1 / 3), (2, 2 / 3)]
    assert capsys.readouterr() == ("", "")


def test_a_run_of_the_users_own_is_left_alone(start, wandb_server, monkeypatch):
    import wandb

    own = SimpleNamespace(offline=False)
    monkeypatch.setattr(wandb, "run", own)
    logger = start(id="abc123")
    assert not logger.experiment.offline
    logger.finish()  # while the server still listens
    assert wandb.run is own


def test_a_connection_lost_on_the_way_warns_and_everything_is_on_disk(run, start, wandb_server, recorded, monkeypatch):
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 1.0)
    logger = start()
    _log(logger, 0)
    wandb_server.stop()
    _log(logger, 1, 2)
    with pytest.warns(UserWarning, match=r"try again with: wandb sync .*run-\d+_\d+-\w+ .TimeoutError"):
        logger.finish()
    assert [row["a"] for row in recorded(run.path).rows] == [0.0, 1 / 3, 2 / 3]
