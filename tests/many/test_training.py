"""Training of many models as other parts of the library call it: metrics as they come, and models that are pruned."""

import torch

from many.single_fits import FOLDS, data
from torchplug import fit_many, use
from torchplug.many.configurations import Configurations
from torchplug.many.grouping import Grouper
from torchplug.many.record import Record
from torchplug.many.settings import TrainerSettings
from torchplug.many.training import ManyTraining

LINEAR = use("linear")
CONFIGS = [{"model": LINEAR, "optimizer": use("adam", lr=lr)} for lr in (0.1, 0.01, 0.001, 1e-4)]
CONFIGS.append({"model": LINEAR, "optimizer": use("adam", lr=0.1), "engine": "autograd"})
NAMES = ("train/epoch_loss", "val/loss")
TRAINER = {"accelerator": "cpu", "max_epochs": 5}


def trained(watch):
    folds = [data().fold(*fold) for fold in FOLDS[:2]]
    settings = TrainerSettings(TRAINER)
    configurations = [Configurations().read(config) for config in CONFIGS]
    grouping = Grouper(folds, settings).group(configurations)
    return ManyTraining(configurations, folds, grouping, settings, Record(), watch=watch).run()


def test_every_epochs_metrics_are_shown_and_models_are_pruned():
    seen = {}

    def watch(epoch, models, metrics):
        for model, *values in zip(models, *(metrics[name].tolist() for name in NAMES), strict=True):
            seen[epoch, model] = values
        # of the program all but the first after two epochs, in its first fold; the one alone after three
        prunable = {(number, 0) for number in (1, 2, 3)} if epoch == 1 else {(4, 1)} if epoch == 2 else set()
        return torch.tensor([model not in prunable for model in models])

    fitted = trained(watch)
    whole = fit_many(CONFIGS, data(), FOLDS[:2], TRAINER)
    for (number, fold), own in fitted.items():
        epochs = 2 if fold == 0 and number in (1, 2, 3) else 3 if (number, fold) == (4, 1) else 5
        assert own.epochs == epochs
        assert {epoch for epoch, model in seen if model == (number, fold)} == set(range(epochs))
        assert [own.result.metrics[name] for name in NAMES] == seen[epochs - 1, (number, fold)]
        if epochs < 5:
            assert own.result.outcome.reason == f"pruned after {epochs} epochs"
            continue
        theirs = whole[number * 2 + fold].module.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in own.result.module.state_dict().items())


def test_configurations_that_are_pruned_everywhere_leave_the_program():
    sizes = []

    def watch(epoch, models, metrics):
        sizes.append(len(models))
        return torch.tensor([number == 0 for number, _ in models])

    fitted = trained(watch)
    assert sizes == [8, 2, 2, 2, 2, 1, 1]
    assert [fitted[number, 1].epochs for number in range(5)] == [5, 1, 1, 1, 1]
