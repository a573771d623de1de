"""Fits a peer to train.csv and predicts test.csv, both in the working directory, in an environment of the peer's.

    PYTHON peers.py NAME numbers|classes

The column y is the target, and columns of text are categories. Writes predicted.csv in the recipe's form (a column y,
or probability_CLASS for each class) and prints the CPU seconds of the fit. Needs pandas and scikit-learn; realmlp and
tabm also need pytabkit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


class Task(NamedTuple):
    """What is to be predicted, from what.

    Args:
        classes: whether classes are predicted, or numbers.
        text: the columns of categories.
    """

    classes: bool
    text: list[str]


def linear(task: Task) -> tuple[Any, dict[str, Any]]:
    """Ridge with λ by leave-one-out, or logistic regression; standardized features, categories one-hot."""
    onehot = (OneHotEncoder(handle_unknown="ignore"), task.text)
    features = make_column_transformer(onehot, remainder=StandardScaler())
    model = LogisticRegression(max_iter=1000) if task.classes else RidgeCV(np.logspace(-4, 4, 17))
    return make_pipeline(features, model), {}


def hgb(task: Task) -> tuple[Any, dict[str, Any]]:
    """Boosted trees with their defaults."""
    model = HistGradientBoostingClassifier if task.classes else HistGradientBoostingRegressor
    return model(random_state=0, categorical_features="from_dtype"), {}


_PYTABKIT = {"random_state": 0, "device": "cpu", "n_threads": 1, "verbosity": 0, "n_cv": 1, "val_fraction": 0.2}


def realmlp(task: Task) -> tuple[Any, dict[str, Any]]:
    """RealMLP with its tuned defaults, which for classes smooth labels and choose the epoch by the error rate."""
    import pytabkit

    model = pytabkit.RealMLP_TD_Classifier if task.classes else pytabkit.RealMLP_TD_Regressor
    return model(**_PYTABKIT), {"cat_col_names": task.text}


def realmlp_log_loss(task: Task) -> tuple[Any, dict[str, Any]]:
    """RealMLP-TD for log loss, as its authors advise: labels are not smoothed, and log loss chooses the epoch."""
    import pytabkit

    model = pytabkit.RealMLP_TD_Classifier(**_PYTABKIT, use_ls=False, val_metric_name="cross_entropy")
    return model, {"cat_col_names": task.text}


def tabm(task: Task) -> tuple[Any, dict[str, Any]]:
    """TabM's defaults with piecewise-linear embeddings; for classes, log loss chooses the epoch."""
    import pytabkit

    if task.classes:
        model = pytabkit.TabM_D_Classifier(**_PYTABKIT, num_emb_type="pwl", val_metric_name="cross_entropy")
    else:
        model = pytabkit.TabM_D_Regressor(**_PYTABKIT, num_emb_type="pwl")
    return model, {"cat_col_names": task.text}


PEERS: dict[str, Callable[[Task], tuple[Any, dict[str, Any]]]] = {
    "linear": linear,
    "hgb": hgb,
    "realmlp": realmlp,
    "realmlp_log_loss": realmlp_log_loss,
    "tabm": tabm,
}
"""By name: functions that return the estimator and more arguments of its `fit`."""

ONLY_CLASSES = {"realmlp_log_loss"}


def main() -> None:
    """Fit, predict and write."""
    name, classes = sys.argv[1], sys.argv[2] == "classes"
    train, test = (pd.read_csv(path, float_precision="round_trip") for path in ("train.csv", "test.csv"))
    target = train.pop("y").to_numpy(str if classes else float)
    test = test[train.columns]
    text = list(train.select_dtypes(exclude="number").columns)
    for column in text:
        train[column] = train[column].astype("category")
        test[column] = test[column].astype(train[column].dtype)
    model, settings = PEERS[name](Task(classes, text))
    start = time.process_time()
    model.fit(train, target, **settings)
    seconds = time.process_time() - start
    if classes:
        names = [f"probability_{label}" for label in model.classes_]
        predicted = pd.DataFrame(model.predict_proba(test), columns=names)
    else:
        predicted = pd.DataFrame({"y": np.asarray(model.predict(test)).ravel()})
    predicted.to_csv("predicted.csv", index=False)
    print(f"SECONDS {seconds}")


if __name__ == "__main__":
    main()
