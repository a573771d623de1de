"""The compiled gradient: that of autograd, whoever asks for it."""

import logging
import shutil

import pytest
import torch
from torch import nn

from compared_fits import Fit, assert_alike, differences, made, quiet
from torchplug import use
from torchplug.errors import ConfigurationError

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore"),  # the compiler's own
]


class Residual(nn.Module):
    """No chain: it adds what it skipped."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(3, 3)
        self.out = nn.Linear(3, 1)

    def forward(self, features):
        return self.out(features + torch.sin(self.inside(features)))


JOB = {
    "model": Residual,
    "optimizer": use("adam", lr=0.01),
    "regularizers": [use("l2", coefficient=0.1), use("l1", coefficient=0.01)],
    "precision": "64-true",
}


def test_steps_are_the_same_and_those_of_autograd(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "torchplug"):
        single = assert_alike(tmp_path / "compiled", "compiled", calls=(7,), **JOB)
    assert "compiled for batches of 7 rows in" in caplog.text
    assert single.module.execution.engine.name == "compiled"
    with quiet():
        reference = Fit(made(tmp_path / "autograd"), 1, "autograd", **JOB)()
    assert differences(single.parameters, reference.parameters, within=1e-11) == []


def test_what_cannot_be_compiled_is_refused(tmp_path, monkeypatch):
    def broken(*arguments):
        raise torch._dynamo.exc.Unsupported("no graph of this")

    monkeypatch.setattr(torch, "compile", lambda *arguments, **settings: broken)
    with (
        quiet(),
        pytest.raises(ConfigurationError, match="engine compiled: no graph of this; leave the engine at auto"),
    ):
        Fit(made(tmp_path / "broken"), 1, "compiled", **JOB)()
