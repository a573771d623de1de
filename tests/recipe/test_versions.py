"""A note tells when the code in use is not the code that made a checkpoint."""

import pytest
import torch


@pytest.fixture
def checkpoint(run, tmp_path):
    """Train, and let the checkpoint say that other versions made it."""
    line = ["fit", "--trainer.max_epochs", "1", "--model.loss", "torchplug-robust:huber"]
    assert run(line)[0] == 0
    (file,) = tmp_path.glob("runs/*/*/checkpoints/last.ckpt")

    def changed(**versions):
        content = torch.load(file, weights_only=True)
        content["torchplug"]["version"] = versions.get("torchplug", content["torchplug"]["version"])
        for component in content["torchplug"]["components"]:
            component["version"] = versions.get(component["distribution"].replace("-", "_"), component["version"])
        torch.save(content, file)
        return str(file)

    return changed


@pytest.mark.parametrize("subcommand", ["fit --trainer.max_epochs 2", "validate", "test", "predict"])
def test_other_versions(run, checkpoint, subcommand):
    file = checkpoint(torchplug="0.0.7", torchplug_robust="9.9")
    status, printed, _ = run([*subcommand.split(), "--ckpt_path", file])
    assert status == 0
    assert "note: the checkpoint was made with torchplug 0.0.7, and " in printed
    assert "note: the checkpoint was made with torchplug-robust 9.9, and " in printed


def test_equal_versions(run, checkpoint):
    _, printed, _ = run(["validate", "--ckpt_path", checkpoint()])
    assert "was made with" not in printed
