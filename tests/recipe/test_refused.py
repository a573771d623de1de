"""What the command line refuses: one clear line, exit status 2, no traceback, nothing left behind."""

import shlex

import pytest
import torch

TABLE = {
    # components and their parameters
    "--model.optimizer adm": "--model.optimizer: unknown optimizer 'adm': did you mean adam",
    "--model.optimizer l2": "unknown optimizer 'l2': l2 is",
    "--model.optimizer 3": "unknown optimizer '3'",
    "--model.loss torchplug-robust:hubert": "unknown loss 'torchplug-robust:hubert'",
    "--model.loss nobody-has-this:loss": "pip install nobody-has-this",
    "--model.scheduler warmup --model.scheduler.after cosin": "did you mean cosine",
    "--model.regularizers+=l3": "unknown regularizer 'l3'",
    "--model.optimizer optimizer": "name the optimizer first",
    "--model.scheduler.decay 3": "name the scheduler first",
    "--model.optimizer.learning_rate 3": "nesterov has no parameter 'learning_rate'; it has lr, beta",
    "--model.optimizer.lrr 3": "did you mean lr?",
    "--model.optimizer '{class_path: adam, init_args: {lrr: 3}}'": "adam has no parameter 'lrr'",
    "--model.optimizer.lr fast": "--model.optimizer.lr: expected float, got fast",
    "--model.optimizer adam --model.optimizer.betas 3": "--model.optimizer.betas: expected tuple, got 3",
    "--model.loss mse --model.loss.per_output max": "expected one of 'sum', 'mean', got max",
    "--model.optimizer.lr -1": "lr",
    "--model.optimizer.lr 1 --model.optimizer sgd": "name the component first",
    "--model.regularizers+=l1 --model.regularizers.coefficient -1": "l1",
    "--model.reduction median": "--model.reduction: expected one of 'mean', 'sum', got median",
    # import paths are none of the configuration's business
    "--model.optimizer os.system": "os.system is refused",
    "--model.optimizer '{class_path: subprocess.run, init_args: {args: ls}}'": "subprocess.run is refused",
    "--model.optimizer torch.optim.SGD": "torch.optim.SGD is refused",
    "--model.optimizer torchplug.builtin.optimizers.Momentum": "is refused",
    "--model.optimizer lightning.pytorch.Trainer": "does not correspond to a subclass of optimizer",
    "--trainer.callbacks+=os.system": "os.system is refused",
    "--trainer.callbacks '[{class_path: shutil.rmtree, init_args: {path: x}}]'": "shutil.rmtree is refused",
    # flags
    "--model.optimizr adam": "unknown flag --model.optimizr; did you mean --model.optimizer",
    "--nonsense 3": "unknown flag --nonsense",
    "--trainer.max_epoch 3": "unknown flag --trainer.max_epoch; did you mean --trainer.max_epochs",
    "tset": "invalid choice: 'tset'",
    "fit again": "unknown argument 'again'",
    "--model.optimizer": "expected one argument",
    "--trainer.max_epochs many": "--trainer.max_epochs: expected int or null, got many",
    "--seed_everything abc": "--seed_everything: expected int, got abc",
    "--data.shuffle perhaps": "--data.shuffle: expected bool, got perhaps",
    "--data.impute guess": "--data.impute: expected",
    "--tracking.mode sometimes": "--tracking.mode: expected one of",
    "--config nofile.yaml": "--config: File does not exist",
    # trainer
    "--trainer.accelerator abacus": "--trainer:",
    "--trainer.strategy telepathy": "--trainer:",
    "--trainer.max_epochs -5": "--trainer:",
    # data
    "--data.split [0.9,0.9]": "must add up to 1",
    "--data.source nofile.csv --data.target y": "nofile.csv",
    "--data.target nocolumn": "nocolumn",
    "--model.loss cross_entropy": "real values",
    "--data.source wine --model.loss bce": "bce separates two classes, the target has 3",
    # checkpoints
    "test": "no run of linear_regression in runs has a checkpoint: fit first",
    "predict --ckpt_path last": "fit first",
    "validate --ckpt_path nofile.ckpt": "there is no checkpoint nofile.ckpt",
    "fit --ckpt_path .": "no run directory",
    "test --ckpt_path broken.ckpt": "cannot be read as a checkpoint",
    "test --ckpt_path foreign.ckpt": "not written by torchplug",
}


@pytest.mark.parametrize("line", TABLE)
def test_refused(run, tmp_path, line):
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    status, printed, errors = run(shlex.split(line))
    assert status == 2
    assert errors.startswith("linear_regression.py: error: ")
    assert errors.count("\n") == 1
    assert TABLE[line] in errors
    assert "torchplug_" not in errors.replace("torchplug_robust", "")  # no name of our own making
    assert printed == ""
    assert not (tmp_path / "runs").exists()


def test_a_path_in_a_file_is_refused_before_it_is_imported(run, tmp_path, monkeypatch):
    (tmp_path / "surprise.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my.yaml").write_text("model: {optimizer: {class_path: surprise.Optimizer, init_args: {lr: 1}}}")
    status, _, errors = run(["fit", "--config", "my.yaml"])
    assert status == 2
    assert "surprise.Optimizer is refused" in errors


def test_a_refused_environment_variable(run, monkeypatch):
    monkeypatch.setenv("TORCHPLUG_FIT__MODEL__OPTIMIZER", "adm")
    status, _, errors = run([])
    assert status == 2
    assert "unknown optimizer 'adm'" in errors
