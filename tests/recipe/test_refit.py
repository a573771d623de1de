"""`fit --refit true`: what is printed, and which model other commands use."""

import re
import signal
import time

import pytest

import torchplug
from recipe_processes import finish, start
from recipe_processes import run as run_process

FIT = ["fit", "--data.source", "diabetes", "--trainer.max_epochs", "3", "--model.model.hidden", "[8]"]


def test_the_last_lines_say_what_was_trained_again(run):
    status, printed, _ = run([*FIT, "--refit", "true"], "mlp")
    assert status == 0
    epochs = re.search(r"best: epoch (\d) of 3, kept as selected\.ckpt; the table is of the last one", printed)[1]
    assert f"refit: on 354 rows of training and validation for {epochs} epoch" in printed
    (found,) = torchplug.runs("runs")
    assert found.outcome["refit"] == {"epochs": int(epochs), "rows": 354}
    status, printed, _ = run(["validate"], "mlp")
    assert "the model was refitted on the validation rows too: selected.ckpt of its run has not seen them" in printed
    assert "refitted" not in run(["validate", "--ckpt_path", str(found.selected)], "mlp")[1]
    status, printed, errors = run(["test"], "mlp")
    assert (status, errors) == (0, "")
    assert "refitted" not in printed
    assert run(["predict", "--interval", "0.9", "--output", "p.csv"], "mlp")[0] == 0


def test_a_fit_that_goes_on_is_refitted_without_being_asked_again(run):
    assert run([*FIT, "--refit"], "mlp")[0] == 0
    status, printed, _ = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"], "mlp")
    assert status == 0
    assert "refit: on 354 rows" in printed
    status, printed, _ = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "5", "--refit", "false"], "mlp")
    assert status == 0
    assert "refit" not in printed
    assert "refit" not in torchplug.runs("runs")[0].outcome


def test_a_diagnosis_is_of_the_model_that_validation_rows_did_not_train(run):
    assert run(FIT, "mlp")[0] == 0
    plain = run(["diagnose", "last", "--iterations", "0"], "mlp")[1]
    assert run([*FIT, "--refit"], "mlp")[0] == 0
    again = run(["diagnose", "last", "--iterations", "0"], "mlp")[1]
    assert plain.split("\n")[1:-2] == again.split("\n")[1:-2]  # without the names of the runs


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--ensemble", "2"], "--refit trains one model and --ensemble several"),
        (
            ["--data.split", "[0.8,0,0.2]"],
            "validation rows say, and nothing validates",
        ),
        (["--trainer.accelerator", "cpu", "--trainer.devices", "2"], "refit trains in one process"),
    ],
)
def test_what_cannot_be_refitted_is_refused_in_a_line(run, tmp_path, flags, message):
    status, _, errors = run([*FIT, "--refit", "true", *flags], "mlp")
    assert (status, errors.count("\n")) == (2, 1)
    assert message in errors
    assert not [*tmp_path.glob("runs/*/*")]


def test_ctrl_c_within_the_second_training_keeps_both(tmp_path):
    line = [*FIT, "--trainer.max_epochs", "400", "--model.optimizer.lr", "1e-4", "--data.batch_size", "full", "--refit"]
    process = start(tmp_path, "mlp", *line)
    while not (begun := [*tmp_path.glob("runs/mlp/*/refit/metrics.jsonl")]) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    status, printed, errors = finish(process)
    assert (status, errors) == (130, "")
    assert "interrupted; resume with: python" in printed
    folder = begun[0].parents[1]
    assert not (folder / "outcome.json").is_file()
    status, printed, errors = run_process(tmp_path, "mlp", "fit", "--ckpt_path", "last")
    assert (status, errors) == (0, "")
    assert "refit: on 354 rows of training and validation" in printed
    assert (folder / "checkpoints" / "selected.ckpt").is_file()
