"""The recipes with their defaults, against scikit-learn fitted on the same split."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, root_mean_squared_error
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from torchplug import TabularData
from torchplug.preprocessing import DataRequirements

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = ["linear_regression", "logistic_regression", "mlp"]


def final_metrics(name, arguments, monkeypatch, folder):
    """Run a recipe, and give the last value of each metric in metrics.jsonl."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", RECIPES / f"{name}.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    assert recipe.main(arguments) == 0
    (file,) = Path("runs", name).glob("*/metrics.jsonl")
    metrics = {}
    for line in file.read_text().splitlines():
        metrics |= json.loads(line)
    return metrics


def split_of(source, kind, seed):
    """Raw features and target of the training and the validation split."""
    data = TabularData(source, seed=seed)
    data.prepare(DataRequirements(kind=kind))
    frames = [data.frame_of(split) for split in ("train", "validation")]
    return [(frame.drop("target").to_numpy(), frame["target"].to_numpy()) for frame in frames]


@pytest.mark.parametrize("seed", [0, 2])
def test_linear_regression(monkeypatch, tmp_path, seed):
    ours = final_metrics("linear_regression", ["fit", "--data.seed", str(seed)], monkeypatch, tmp_path)["val/rmse"]
    (x, y), (validation, truth) = split_of("diabetes", "regression", seed)
    theirs = root_mean_squared_error(truth, LinearRegression().fit(x, y).predict(validation))
    assert ours <= 1.005 * theirs  # over six seeds: at most 1.0022


@pytest.mark.parametrize("seed", [0, 3])
def test_logistic_regression(monkeypatch, tmp_path, seed):
    ours = final_metrics("logistic_regression", ["fit", "--data.seed", str(seed)], monkeypatch, tmp_path)["val/loss"]
    (x, y), (validation, truth) = split_of("breast_cancer", "binary", seed)
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=1e-8, max_iter=1000)).fit(x, y)
    theirs = log_loss(truth, reference.predict_proba(validation), labels=np.unique(y))
    assert ours <= 1.01 * theirs  # over six seeds: at most 1.0035


def test_mlp(monkeypatch, tmp_path):
    ours = final_metrics("mlp", [], monkeypatch, tmp_path)["val/accuracy"]
    (x, y), (validation, truth) = split_of("digits", "multiclass", 0)
    reference = make_pipeline(StandardScaler(), MLPClassifier(max_iter=300, random_state=0)).fit(x, y)
    theirs = accuracy_score(truth, reference.predict(validation))
    assert ours >= 0.98 * theirs  # over four seeds: at least 0.994


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_short_and_imports_no_other(name):
    text = (RECIPES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 60
    assert not any(f"import {other}" in text or f"from {other}" in text for other in NAMES)
