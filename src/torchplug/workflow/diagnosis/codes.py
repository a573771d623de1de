"""The codes of diagnoses, and the remedies in the order in which they are worth trying."""

from __future__ import annotations

from collections.abc import Sequence

NOT_CONVERGED = ("TPD001", "not converged")
UNDERFITTING = ("TPD002", "underfitting")
OVERFITTING = ("TPD003", "overfitting")
TOO_LITTLE_DATA = ("TPD004", "too little data")
FEW_VALIDATION_ROWS = ("TPD005", "few validation rows")
CODES = dict([NOT_CONVERGED, UNDERFITTING, OVERFITTING, TOO_LITTLE_DATA, FEW_VALIDATION_ROWS])
"""What each code stands for."""

_EARLY_STOPPING = "stop early: --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor val/loss"


def train_longer(is_full_batch: bool) -> list[str]:
    """Against training that has not converged."""
    if is_full_batch:
        return ["train longer: raise --trainer.max_epochs, each of which is one iteration"]
    return [
        "train longer: raise --trainer.max_epochs",
        "another learning rate: raise --model.optimizer.lr where the loss falls slowly and smoothly, lower it where it "
        "jumps",
        "another optimizer: --model.optimizer adam; for linear models --model.optimizer closed_form or newton",
    ]


def fit_better(is_linear: bool, penalized: bool, dropout: bool) -> list[str]:
    """Against a high training error."""
    bigger = "bigger model: raise --model.model.hidden, such as '[256,256]'"
    if is_linear:
        bigger = "bigger model: the recipe mlp.py, or --model.model mlp"
    shapes = [] if is_linear else ["different architecture: --model.model.activation, --model.model.embedding periodic"]
    weaker = ["weaker penalties: lower the coefficient in --model.regularizers"] if penalized else []
    return [
        bigger,
        "train longer: raise --trainer.max_epochs",
        *(shapes or ["different features: others in --data.features, or transformed ones in the table"]),
        *weaker,
        *(["less dropout: lower --model.model.dropout"] if dropout else []),
    ]


def generalize(is_linear: bool, penalized: bool) -> list[str]:
    """Against a validation error far above the training error."""
    stronger = "raise the coefficient in --model.regularizers" if penalized else "--model.regularizers+=l2"
    dropout = [] if is_linear else ["more dropout: --model.model.dropout 0.3"]
    smaller = [] if is_linear else ["different architecture: fewer units in --model.model.hidden"]
    return [
        "more data: `learning_curve` says what twice the rows would bring",
        f"regularization: {stronger}",
        *dropout,
        *([] if is_linear else [_EARLY_STOPPING]),
        *(smaller or ["fewer features: leave some out by --data.exclude"]),
    ]


def more_rows(is_linear: bool, penalized: bool) -> Sequence[str]:
    """Against too few rows."""
    first, *others = generalize(is_linear, penalized)
    return [first, "fewer features: leave some out by --data.exclude", *others]


def more_validation() -> Sequence[str]:
    """Against a validation split too small to judge by."""
    return ["`cross_validate`, in which every row validates once", "a larger share in --data.split"]
