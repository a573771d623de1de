"""The same training on a CUDA device as on the CPU."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from small_fits import trainer
from torchplug import ComponentModule, TabularData, use
from torchplug.errors import NonFiniteGradientError

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")]


def fitted(tmp_path, accelerator, optimizer="adam", **settings):
    torch.manual_seed(0)
    module = ComponentModule(use("mlp", hidden=[8]), "mse", use(optimizer, lr=0.01), ["l2"], "inverse_time")
    run = trainer(
        tmp_path, accelerator=accelerator, devices=1, **{"max_epochs": 10, "precision": "64-true", **settings}
    )
    data = TabularData("diabetes", batch_size=32)
    run.fit(module, data)
    return module, data, run


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
def test_weights_equal_those_of_the_cpu(tmp_path, optimizer):
    on_gpu, on_cpu = fitted(tmp_path, "gpu", optimizer)[0], fitted(tmp_path, "cpu", optimizer)[0]
    for got, expected in zip(on_gpu.parameters(), on_cpu.parameters(), strict=True):
        np.testing.assert_allclose(got.detach().cpu().numpy(), expected.detach().numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("engine", ["analytic", "autograd"])
def test_running_ahead_gives_the_weights_of_single_steps(tmp_path, engine):
    def weights(steps_per_execution):
        torch.manual_seed(0)
        module = ComponentModule(
            use("mlp", hidden=[8]),
            "mse",
            use("adam", lr=0.01),
            ["l2"],
            engine=engine,
            steps_per_execution=steps_per_execution,
        )
        run = trainer(tmp_path, accelerator="gpu", devices=1, precision="64-true", max_epochs=5)
        run.fit(module, TabularData("diabetes", batch_size=16))
        return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).cpu()

    torch.testing.assert_close(weights(64), weights(1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_every_precision_learns(tmp_path, precision):
    _, _, run = fitted(tmp_path, "gpu", precision=precision, max_epochs=40)
    assert run.callback_metrics["val/r2"] > 0.2


def test_a_checkpoint_of_a_gpu_predicts_on_the_cpu(tmp_path):
    module, data, run = fitted(tmp_path, "gpu")
    run.save_checkpoint(tmp_path / "gpu.ckpt")
    again = ComponentModule.load_from_checkpoint(tmp_path / "gpu.ckpt", map_location="cpu", weights_only=True)
    rows = data.frame_of("test")
    np.testing.assert_allclose(again.predict(rows)["target"], module.predict(rows)["target"], rtol=1e-9)


def test_divergence_is_found_on_the_device(tmp_path):
    module = ComponentModule("linear", "mse", use("sgd", lr=1e30))
    with pytest.raises(NonFiniteGradientError, match=r"epoch 0, step \d"):
        trainer(tmp_path, accelerator="gpu", devices=1).fit(module, TabularData("diabetes", batch_size=32))
    assert all(torch.isfinite(p).all() for p in module.parameters())


@pytest.mark.gpu(2)
def test_a_recipe_on_two_devices(tmp_path):
    recipe = Path(__file__).parents[2] / "recipes" / "mlp.py"
    flags = ["--trainer.accelerator", "gpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run(
        [sys.executable, str(recipe), "fit", *flags, "--trainer.max_epochs", "3", "--tracking.mode", "disabled"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "runs" / "mlp").iterdir())) == 1
