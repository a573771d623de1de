"""Metrics of a split, evaluated again and again."""

import pytest
import torch

from torchplug.batch import Batch
from torchplug.components.builtin.losses import BCE, MSE
from torchplug.components.metrics import MetricChoice
from torchplug.evaluation.split_evaluations import SplitEvaluations


def evaluations_by(loss):
    return SplitEvaluations(loss, MetricChoice(loss.task, []))


def batch(target):
    target = torch.tensor(target, dtype=torch.float64).unsqueeze(1)
    return Batch(torch.zeros(len(target), 1), target, torch.ones(len(target)), len(target))


def evaluated(evaluations, split, scores, target):
    evaluations.update(split, torch.tensor(scores, dtype=torch.float64).unsqueeze(1), batch(target), None)
    return {name: value.item() for name, value in evaluations.finish(split).items()}


def test_an_evaluation_knows_nothing_of_the_one_before():
    evaluations = evaluations_by(MSE())
    first = evaluated(evaluations, "val", [1.0, 2.0, 3.0], [1.0, 2.0, 5.0])
    assert first["val/loss"] == pytest.approx(4 / 3)
    again = evaluated(evaluations, "val", [1.0, 2.0], [2.0, 3.0])
    assert again == evaluated(evaluations_by(MSE()), "val", [1.0, 2.0], [2.0, 3.0])


def test_metrics_that_keep_every_prediction_forget_them():
    evaluations = evaluations_by(BCE())
    assert evaluated(evaluations, "val", [-1.0, 1.0], [0.0, 1.0])["val/auroc"] == 1.0
    assert evaluated(evaluations, "val", [1.0, -1.0], [0.0, 1.0])["val/auroc"] == 0.0


def test_splits_do_not_mix():
    evaluations = evaluations_by(MSE())
    evaluations.update("val", torch.zeros(2, 1), batch([1.0, 3.0]), None)
    evaluations.update("test", torch.zeros(2, 1), batch([2.0, 2.0]), None)
    assert evaluations.finish("val")["val/loss"].item() == 5.0
    assert evaluations.finish("test")["test/loss"].item() == 4.0
    assert evaluations.finish("val") == {}


def test_another_training_target_is_another_comparison():
    evaluations = evaluations_by(MSE())
    far = [1e9 + x for x in (1.0, 2.0, 4.0)]
    close = [y + 0.5 for y in far]
    for location, spread in ((0.0, 1.0), (1e9, 1.0)):
        evaluations.compare_with((torch.tensor([location]).double(), torch.tensor([spread]).double()))
        found = evaluated(evaluations, "val", close, far)["val/r2"]
    assert found == pytest.approx(1 - 0.75 / (14 / 3), rel=1e-12)
