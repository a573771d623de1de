"""What follows from each kind of loss, and that it goes together."""

from typing import get_args

import pytest
import torch

from torchplug import TargetInfo
from torchplug.components.task import TASKS
from torchplug.registry import registry
from torchplug.registry.component import Family, Kind, View

SCORES = {
    1: torch.tensor([[-2.0], [0.5], [3.0]]).double(),
    3: torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 1.0]]).double(),
}


def predictions_of(task):
    return task.link(SCORES[3 if task.has_indices else 1])


def target_of(task):
    return torch.tensor([1, 0]) if task.has_indices else torch.tensor([[0.0], [1.0], [1.0]]).double()


def test_every_kind_has_a_record():
    assert {kind: task.kind for kind, task in TASKS.items()} == {kind: kind for kind in get_args(Kind)}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_its_metrics_exist_and_go_with_it(task):
    for name in task.metrics:
        record = registry().find(Family.METRIC, name).component
        assert task.kind in record.kinds
        assert record.view in task.views


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_views_of_equal_length(task):
    predictions, target = predictions_of(task), target_of(task)
    assert set(task.views) <= set(get_args(View))
    for name in task.views:
        predicted, true = task.view(name, predictions, target)
        assert len(predicted) == len(true) == len(target), name
        if name in ("labels", "scores", "probabilities"):
            assert true.dtype == torch.int64
        if name in ("scores", "probabilities", "distributions"):
            assert bool(((predicted >= 0) & (predicted <= 1)).all())
        if name == "distributions":
            assert predicted.shape == true.shape


@pytest.mark.parametrize("kind", ["binary", "margin", "multiclass"])
def test_the_class_of_the_highest_score_is_predicted(kind):
    task = TASKS[kind]
    predicted, _ = task.view("labels", predictions_of(task), target_of(task))
    assert predicted.tolist() == ([1, 0] if task.has_indices else [0, 1, 1])


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_probabilities_of_all_classes_add_up_to_one(kind):
    probabilities = TASKS[kind].probabilities(predictions_of(TASKS[kind]))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(probabilities)).double())


def test_margins_keep_their_order_when_squashed():
    score = torch.tensor([[-1e6], [-1.0], [0.0], [1e-3], [50.0]]).double()
    ranking = TASKS["margin"].ranking(score)
    assert bool((ranking.diff() > 0).all())
    assert ranking[2] == 0.5


@pytest.mark.parametrize(
    ("kind", "columns", "classes", "expected"),
    [
        ("regression", 2, None, 2),
        ("count", 1, None, 1),
        ("binary", 1, ("no", "yes"), 1),
        ("margin", 1, ("no", "yes"), 1),
        ("multiclass", 1, ("a", "b", "c"), 3),
        ("binary", 1, ("a", "b", "c"), "separates two classes, the target has 3"),
        ("multiclass", 1, None, "needs classes"),
    ],
)
def test_outputs(kind, columns, classes, expected):
    info = TargetInfo(tuple("xyz"[:columns]), classes)
    if isinstance(expected, int):
        assert TASKS[kind].outputs(info) == expected
    else:
        with pytest.raises(ValueError, match=expected):
            TASKS[kind].outputs(info)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [("count", -1.0, "negative"), ("binary", 1.5, "in \\[0, 1\\]"), ("margin", -0.5, "in \\[0, 1\\]")],
)
def test_the_domain(kind, value, message):
    TASKS[kind].check(torch.tensor([[0.0], [1.0]]))
    with pytest.raises(ValueError, match=message):
        TASKS[kind].check(torch.tensor([[0.0], [value]]))
    TASKS["regression"].check(torch.tensor([[value]]))
