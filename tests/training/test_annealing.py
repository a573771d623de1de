"""What a network with `anneal` is told during a fit."""

import pytest
import torch
from lightning.pytorch import Callback

from compared_fits import Annealed, Fit, rows
from torchplug import use


class StopAfter(Callback):
    """Ends the training after two epochs."""

    def on_train_epoch_end(self, run, module):
        run.should_stop = run.current_epoch == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_epochs": 4}, [0.0, 0.25, 0.5, 0.75]),
        ({"max_epochs": 4, "steps_per_execution": 1}, [0.0, 0.25, 0.5, 0.75]),
        ({"max_epochs": 4, "accumulate_grad_batches": 4}, [0.0, 0.25, 0.5, 0.75]),
        ({"max_epochs": -1, "max_steps": 55}, [0.0, 22 / 55, 44 / 55]),
        ({"max_epochs": 9, "max_steps": 44}, [0.0, 0.5]),
        ({"max_epochs": -1, "callbacks": lambda folder: [StopAfter()]}, [0.0, 0.0]),
    ],
    ids=["epochs", "single steps", "windows", "steps", "steps before epochs", "no planned end"],
)
def test_it_is_told_at_each_epoch_how_much_of_the_run_is_over(tmp_path, settings, told):
    fit = Fit(tmp_path, model=Annealed, **settings)()
    assert fit.module.network.told == told


def test_another_fit_begins_anew(tmp_path):
    fit = Fit(tmp_path, model=Annealed, max_epochs=2)()
    again = Fit(tmp_path, module=fit.module, max_epochs=4)()
    assert again.module.network.told == [0.0, 0.5, 0.0, 0.25, 0.5, 0.75]


def test_a_compiled_network_passes_it_on(tmp_path):
    fit = Fit(tmp_path, model=lambda: torch.compile(Annealed(), backend="eager"), max_epochs=2)()
    assert fit.module.network.told == [0.0, 0.5]


def test_a_full_batch_optimizer_minimizes_one_function(tmp_path):
    fit = Fit(tmp_path, model=Annealed, optimizer=use("lbfgs"), max_epochs=3, data=rows)()
    assert fit.module.network.told == []
