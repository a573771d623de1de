"""Metrics by name on a recipe's command line: logged, watched, tracked and recorded."""

import json
import shlex
from pathlib import Path

import polars
import pytest

import third_party

DIGITS = "--data.source digits --trainer.max_epochs 2 --model.model.hidden [8]"
PLATEAU = "--model.scheduler plateau --model.scheduler.monitor"
STOPPING = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor"


@pytest.fixture(autouse=True)
def _acme(distributions):
    third_party.install(distributions)


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_third_partys_metric_from_fit_to_test(run):
    chosen = "--model.metrics+=macro_auc --model.metrics.average weighted"
    watching = f"{STOPPING} val/macro_auc --trainer.callbacks.mode max"
    plateau = f"{PLATEAU} val/macro_auc --model.scheduler.mode max"
    line = f"fit {DIGITS} {chosen} {watching} {plateau}"
    status, printed, errors = run(shlex.split(line), recipe="mlp")
    assert (status, errors) == (0, "")
    assert "macro_auc" in printed
    (folder,) = Path("runs/mlp").iterdir()
    values = [row["val/macro_auc"] for row in rows_of(folder) if "val/macro_auc" in row]
    assert len(values) == 2
    assert all(0.5 < value <= 1 for value in values)
    provenance = json.loads((folder / "provenance.json").read_text())
    assert {"family": "metric", "name": "acme:macro_auc", "distribution": "acme", "version": "1.0"} in provenance[
        "components"
    ]
    status, printed, _ = run(["test"], recipe="mlp")
    assert status == 0
    (tested,) = [row for row in rows_of(folder) if "test/macro_auc" in row]
    assert 0.5 < tested["test/macro_auc"] <= 1


def test_a_checkpoint_is_evaluated_by_other_metrics(run):
    assert run(shlex.split(f"fit {DIGITS}"), recipe="mlp")[0] == 0
    status, printed, errors = run(shlex.split("validate --model.metrics+=acme:macro_auc"), recipe="mlp")
    assert (status, errors) == (0, "")
    assert "macro_auc" in printed
    status, _, errors = run(
        shlex.split("predict --model.metrics+=macro_auc --data.source digits --output predictions.csv"), recipe="mlp"
    )
    assert status == 2
    assert "--model.metrics cannot change" in errors


REFUSED = {
    "--model.metrics+=xyzzy": "'xyzzy': `torchplug list metric` shows what there is; metrics are accuracy, ",
    "--model.metrics+=macro_au": "unknown metric 'macro_au': did you mean macro_auc",
    "--model.metrics+=rmse": "rmse goes with losses for count and regression, and this loss is for multiclass: choose",
    "--model.metrics+=macro_auc --model.metrics.average many": "average: expected 'macro' or 'weighted'",
    "--model.metrics+=macro_auc --model.metrics.averge macro": "unknown parameter 'averge', did you mean average?",
    "--model.metrics '[macro_auc, macro_auc]'": "--model.metrics names macro_auc twice",
    f"--model.metrics+=macro_auc {STOPPING} val/macro_auc": "val/macro_auc, whose highest value is the best: set its",
    f"{STOPPING} val/macro_auc": "watches val/macro_auc, which no epoch logs: watch train/epoch_loss, val/loss,",
    f"{STOPPING} val/loss --trainer.callbacks.mode max": "whose lowest value is the best: set its mode to min",
    f"--model.metrics+=macro_auc {PLATEAU} val/macro_auc": "plateau watches val/macro_auc, whose highest value is",
}


@pytest.mark.parametrize("line", REFUSED, ids=range(len(REFUSED)))
def test_refused(run, tmp_path, line):
    status, _, errors = run(shlex.split(f"fit {DIGITS} {line}"), recipe="mlp")
    assert (status, errors.count("\n")) == (2, 1)
    assert REFUSED[line] in errors
    assert not (tmp_path / "runs").exists()


def test_targets_of_probabilities_have_no_metric_of_labels(run, tmp_path):
    table = polars.DataFrame({"x": [float(i) for i in range(40)], "p": [0.1 + 0.02 * i for i in range(40)]})
    table.write_csv(tmp_path / "soft.csv")
    line = "fit --data.source soft.csv --data.target p --model.loss bce --model.metrics+="
    status, _, errors = run(shlex.split(f"{line}macro_f1"))
    assert status == 2
    assert "--model.metrics: macro_f1 needs class labels, and the target has probabilities" in errors
    assert run(shlex.split(f"{line}brier --trainer.max_epochs 1"))[0] == 0
