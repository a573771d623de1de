"""`fit_many` that was interrupted or killed goes on, with the bits of one that was not."""

import os
import shutil
import signal
import subprocess
import sys

import polars
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

import torchplug
from many.interrupting import assert_same_bits, interrupted_after, wait_for_rows
from many.single_fits import FOLDS, data
from torchplug import Run, TabularData, fit_many, use
from torchplug.errors import CheckpointError, ConfigurationError

OFF = {"mode": "disabled"}
LINEAR, MLP = use("linear"), use("mlp", hidden=[5], activation="tanh")
LASSO = [use("l1", coefficient=0.02, proximal=True)]
RATES = (0.3, 0.1, 1e-5)
STOPPING = {"callbacks": EarlyStopping("val/loss", patience=2, min_delta=0.02)}


def configs(model, optimizer="adam", rates=RATES, **common):
    return [
        {"model": model, "optimizer": use(optimizer, lr=lr), "seed": seed, **common} for seed, lr in enumerate(rates)
    ]


CASES = {
    "linear, some of which stop early": (configs(LINEAR), STOPPING),
    "dropout and a schedule of steps": (
        configs(use("mlp", hidden=[5], dropout=0.3), "momentum", (0.01, 0.02), scheduler=use("one_cycle")),
        {},
    ),
    "plateau": (configs(MLP, "sgd", (0.1, 0.01), scheduler=use("plateau", patience=0, threshold=0.1)), {}),
    "wide networks": (
        configs(use("mlp", hidden=[70, 60]), "nesterov", (1e-3, 2e-3), scheduler=use("exponential", decay=0.9)),
        {},
    ),
    "wide networks that stop early": (configs(use("mlp", hidden=[70, 60]), "adamw", (0.05, 0.02, 1e-6)), STOPPING),
    "a proximal penalty": (configs(MLP, "nesterov", (0.02, 0.05), regularizers=LASSO), {}),
    "batch normalization": (configs(use("mlp", hidden=[5], batch_norm=True), rates=(0.01, 0.1)), {}),
    "one that diverges": (configs(LINEAR, "sgd", (0.01, 1e30)), {}),
}


@pytest.fixture
def fit(tmp_path):
    """Fit in a folder of a name."""

    def fitted(folder, chosen, epochs=12, tables=None, **options):
        trainer = {"accelerator": "cpu", "max_epochs": epochs, **options.pop("trainer", {})}
        options = {"tracking": OFF, "folds": FOLDS[:2], **options}
        return fit_many(chosen, tables or data(batch_size=10), trainer=trainer, root=tmp_path / folder, **options)

    return fitted


@pytest.mark.parametrize("case", CASES)
def test_after_ctrl_c_training_goes_on_with_the_same_bits(tmp_path, fit, case):
    chosen, trainer = CASES[case]
    whole = fit("whole", chosen, trainer=trainer)
    with interrupted_after(len(chosen) * 2 * 3, tmp_path / "part"):
        part = fit("part", chosen, trainer=trainer)
    assert part[0].run.outcome is None
    assert "resume with ckpt_path=" in next(r.outcome.remedy for r in part if "interrupted" in r.outcome.reason)
    kept, given = (module.state_dict() for module in (torchplug.load(part[0].run, 1), part[2].module))
    assert all(torch.equal(kept[name], value) for name, value in given.items()), "results are what was kept"
    resumed = fit("part", chosen, trainer=trainer, ckpt_path="last", tracking=None)
    assert resumed[0].run == part[0].run
    assert_same_bits(resumed, whole)
    assert resumed[0].run.outcome == whole[0].run.outcome


@pytest.mark.parametrize("case", ["linear, some of which stop early", "wide networks", "batch normalization"])
def test_more_epochs_may_be_asked_for(fit, case):
    chosen, trainer = CASES[case]
    whole = fit("whole", chosen, epochs=8, trainer=trainer)
    part = fit("part", chosen, epochs=3, trainer=trainer)
    assert part[0].run.outcome["epochs"] == 3
    assert_same_bits(fit("part", chosen, epochs=8, trainer=trainer, ckpt_path=part[0].run.path), whole)


ALONE = [
    {"model": LINEAR, "optimizer": use("adam", lr=0.1)},
    {"model": LINEAR, "optimizer": "closed_form"},
    {"model": use("mlp", hidden=[4], dropout=0.2), "engine": "autograd", "seed": 3},
]


def test_a_model_that_is_trained_alone_goes_on_too_and_none_is_trained_twice(tmp_path, fit):
    whole = fit("whole", ALONE)
    # 24 rows of the program, 2 of the closed form, some of a model alone
    with interrupted_after(24 + 2 + 5, tmp_path / "part"):
        part = fit("part", ALONE)
    before = part[0].run.metrics
    assert [r.outcome.reason.startswith("interrupted") for r in part] == [False] * 4 + [True] * 2
    resumed = fit("part", ALONE, ckpt_path="last")
    assert_same_bits(resumed, whole)
    assert resumed[0].run.metrics.head(before.height).equals(before), "what was done is not done again"
    run = resumed[0].run
    for path in (run.path, run.path / "models" / "2-1"):  # as if it had been killed right after the last step
        (path / "outcome.json").unlink()
    again = fit("part", ALONE, ckpt_path=run.checkpoints / "stack.ckpt")
    assert_same_bits(again, whole)
    assert run.outcome == whole[0].run.outcome


def test_a_model_alone_that_was_killed_before_its_first_checkpoint_has_each_row_once(fit):
    chosen = [{"model": torch.nn.Linear(3, 1), "optimizer": use("adam", lr=0.1)}]
    whole = fit("part", chosen, folds=FOLDS[:1])[0].run
    own = Run(whole.path / "models" / "0-0")
    rows = own.metrics
    shutil.rmtree(own.checkpoints)
    for run in (own, whole):
        (run.path / "outcome.json").unlink()
    assert fit("part", chosen, folds=FOLDS[:1], ckpt_path="last", tracking=None)[0].run == whole
    assert own.metrics.equals(rows)


def test_a_model_alone_that_diverges_is_kept_as_it_was(fit):
    chosen = [{"model": LINEAR, "optimizer": use("sgd", lr=1e30), "engine": "autograd"}]
    first = fit("diverged", chosen, folds=None)
    assert first[0].outcome.name == "stalled"
    assert first[0].run.outcome["name"] == "stalled"
    again = fit("diverged", chosen, folds=None, ckpt_path="last")
    assert again[0].outcome == first[0].outcome
    for name, value in first[0].module.state_dict().items():
        assert torch.equal(again[0].module.state_dict()[name], value)


SCRIPT = """
import sys
from many.single_fits import FOLDS, data
from torchplug import fit_many, use

if __name__ == "__main__":
    root, *ckpt_path = sys.argv[1:]
    configs = [
        {"model": use("mlp", hidden=[5], dropout=0.3), "optimizer": use("momentum", lr=lr), "scheduler": use("cosine")}
        for lr in (0.01, 0.02)
    ]
    configs.append({"model": use("mlp", hidden=[4]), "engine": "autograd"})
    results = fit_many(
        configs, data(), FOLDS[:2], {"accelerator": "cpu", "max_epochs": 30, "enable_progress_bar": False},
        tracking={"mode": "disabled"}, root=root, ckpt_path=next(iter(ckpt_path), None),
    )
    print(results[0].run.path)
"""


def start(folder, *arguments):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


def test_a_process_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    def run_of(folder, *arguments):
        out, errors = start(tmp_path, str(folder), *arguments).communicate(timeout=300)
        assert out, errors.decode()[-3000:]
        return torchplug.Run.open(out.decode().strip())

    whole, root, arguments = run_of(tmp_path / "whole"), tmp_path / "killed", []
    for rows in (30, 90, 150):  # within the program, at its end, within the first model alone
        process = start(tmp_path, str(root), *arguments)
        assert wait_for_rows(root, rows, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        arguments = ["last"]
    killed = run_of(root, "last")
    assert killed.metrics.equals(whole.metrics)
    assert killed.outcome == whole.outcome
    for configuration in range(3):
        for fold in range(2):
            ours, theirs = (torchplug.load(run, configuration, fold).state_dict() for run in (killed, whole))
            assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert not list(killed.path.glob("**/*.part")), "nothing half-written is left"


def test_what_is_not_the_runs_own_is_refused(tmp_path, fit):
    chosen = configs(LINEAR)
    run = fit("runs", chosen, epochs=2)[0].run
    table = data().sources["source"]
    longer = TabularData(polars.concat([table, table.head(1)]), "y", features=["x0", "x1", "x2"], batch_size=10)

    def refused(message, error=CheckpointError, chosen=chosen, epochs=2, **options):
        with pytest.raises(error, match=message) as caught:
            fit("runs", chosen, epochs, **{"ckpt_path": run.path, **options})
        assert "\n" not in str(caught.value)

    refused(
        r"was trained with optimizer .*'lr': 0.3.* in configuration 0, not .*0.2",
        chosen=configs(LINEAR, rates=(0.2, 0.1, 1e-5)),
    )
    refused("has 3 configurations, not 2", chosen=chosen[:2])
    refused("was trained on other folds", folds=FOLDS[1:])
    refused("was trained on other folds", folds=None)
    refused(
        r"the tables are not those of .*'source': 250.* then, .*251.* now",
        ConfigurationError,
        tables=longer,
    )
    refused("was trained with data batch_size 10, not 11", tables=data(batch_size=11))
    refused("was trained with trainer gradient_clip_val None, not 0.5", trainer={"gradient_clip_val": 0.5})
    refused("was trained with trainer callbacks None, not", trainer=STOPPING)
    refused("has 2 epochs behind it", ConfigurationError, epochs=1)
    refused("is no run of many models", ckpt_path=tmp_path)
    refused("no run of other in .* can be resumed", ckpt_path="last", name="other")
    assert run.outcome["epochs"] == 2


def test_a_run_that_is_in_use_is_refused(fit):
    chosen = configs(LINEAR)
    run = fit("runs", chosen, epochs=2)[0].run
    with run.locked(), pytest.raises(ConfigurationError, match="another process trains in it"):
        fit("runs", chosen, epochs=3, ckpt_path="last")
