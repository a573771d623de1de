"""What the command line refuses: one clear line, exit status 2, no traceback, nothing left behind."""

import shlex

import pytest
import torch

STOPPING = "--trainer.callbacks+=EarlyStopping --trainer.callbacks"
FILES = {
    "broken.yaml": b"model: {loss: mse\n  optimizer: [\n",
    "tab.yaml": b"model:\n\tloss: mse\n",
    "binary.yaml": bytes(range(128, 256)),
    "list.yaml": b"- a\n- b\n",
    "empty.yaml": b"",
    "misspelt.yaml": b"model: {optimzer: adam}\n",
    "good.yaml": b"trainer: {max_epochs: 3}\n",
    "parts.yaml": b"fit: {trainer: {max_epochs: 3}}\n",
    "broken.ckpt": b"no checkpoint",
}
TABLE = {
    # components and their parameters
    "--model.optimizer adm": "--model.optimizer: unknown optimizer 'adm': did you mean adam",
    "--model.optimizer l2": "unknown optimizer 'l2': l2 is",
    "--model.optimizer 3": "unknown optimizer '3'",
    "--model.loss torchplug-robust:hubert": "unknown loss 'torchplug-robust:hubert'",
    "--model.loss nobody-has-this:loss": "pip install nobody-has-this",
    "--model.scheduler warmup --model.scheduler.after cosin": "did you mean cosine",
    "--model.regularizers+=l3": "unknown regularizer 'l3'",
    "--model.optimizer optimizer": "--model.optimizer: unknown optimizer 'optimizer'",
    "--model.scheduler.decay 3": "name the scheduler first",
    "--model.optimizer.learning_rate 3": "nesterov (optimizer): unknown parameter 'learning_rate'; it takes lr, beta",
    "--model.optimizer.lrr 3": "did you mean lr?",
    "--model.optimizer '{class_path: adam, init_args: {lrr: 3}}'": "unknown parameter 'lrr', did you mean lr?",
    "--model.optimizer.lr fast": "--model.optimizer.lr: expected float, got fast",
    "--model.optimizer adam --model.optimizer.betas 3": "--model.optimizer.betas: expected tuple[float, float], got 3",
    "--model.loss mse --model.loss.per_output max": "expected one of 'sum', 'mean', got max",
    "--model.optimizer.lr -1": "lr",
    "--model.regularizers+=l1 --model.regularizers.coefficient -1": "l1",
    "--model.reduction median": "--model.reduction: expected one of 'mean', 'sum', got median",
    # import paths are none of the configuration's business
    "--model.optimizer os.system": "os.system is refused",
    "--model.optimizer '{class_path: subprocess.run, init_args: {args: ls}}'": "subprocess.run is refused",
    "--model.optimizer torch.optim.SGD": "torch.optim.SGD is refused",
    "--model.optimizer torchplug.components.builtin.optimizers.Momentum": "is refused",
    "--model.optimizer lightning.pytorch.Trainer": "lightning.pytorch.Trainer is refused",
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
    # configuration files
    "--config broken.yaml": "broken.yaml is not valid YAML, line 2, column 12: did not find expected",
    "--config broken.yaml fit": "broken.yaml is not valid YAML, line 2",
    "--ckpt_path best --config=broken.yaml": "broken.yaml is not valid YAML",
    "--config tab.yaml": "tab.yaml is not valid YAML, line 2, column 1",
    "--config binary.yaml": "binary.yaml is no configuration: it is not text in UTF-8",
    "--config list.yaml": "list.yaml holds no settings",
    "--config empty.yaml": "empty.yaml holds no settings",
    "--config misspelt.yaml": "unknown setting model.optimzer; did you mean model.optimizer?",
    "--config good.yaml fit": "good.yaml holds trainer, which is a setting of a subcommand: give it after",
    "--config good.yaml fit --print_config": "give it after the subcommand (fit --config FILE)",
    "fit --config parts.yaml": "parts.yaml holds settings under `fit:`: give it before the subcommand",
    "--config '{model: [}'": "--config: neither a file nor valid YAML",
    "--data '{sorce: iris}'": "unknown setting data.sorce; did you mean data.source?",
    "--model.optimizer '{class_path: adam'": "{class_path: adam is neither a name nor valid YAML",
    # trainer
    "--trainer.accelerator abacus": "--trainer:",
    "--trainer.strategy telepathy": "--trainer:",
    "--trainer.accelerator tpu": "--trainer:",
    "--trainer.devices 4096": "--trainer.devices 4096: a process each, and this machine has",
    "--trainer.max_epochs -5": "--trainer.max_epochs must be a whole number of at least 1, or -1 for no limit, not -5",
    "--trainer.max_epochs 0": "--trainer.max_epochs",
    "--trainer.max_steps 0": "--trainer.max_steps",
    "--trainer.accumulate_grad_batches 0": "--trainer.accumulate_grad_batches must be a whole number of at least 1",
    "--trainer.check_val_every_n_epoch 0": "--trainer.check_val_every_n_epoch",
    "--trainer.gradient_clip_val -1": "--trainer.gradient_clip_val must be a number of at least 0",
    "--trainer.limit_train_batches 0": "--trainer.limit_train_batches must be above 0",
    "--trainer.limit_train_batches 2.5": "--trainer:",
    "--trainer.log_every_n_steps -1": "--trainer.log_every_n_steps",
    "--seed_everything -3": "--seed_everything must be from 0 to 4294967295, not -3",
    "--trainer.callbacks+=EarlyStoping": "--trainer.callbacks: unknown class 'EarlyStoping'",
    "--trainer.callbacks+=EarlyStopping": "--trainer.callbacks: EarlyStopping needs monitor",
    f"{STOPPING}.monitr val/loss": "EarlyStopping has no parameter 'monitr'",
    f"{STOPPING}.monitor val/loss --trainer.callbacks.patience many": "callbacks.patience: expected int, got many",
    f"{STOPPING}.monitor val/loss --trainer.callbacks.mode best": "--trainer: `mode` can be min, max, got best",
    f"{STOPPING}.monitor val/accuracy": "watches val/accuracy, which no epoch logs: watch train/epoch_loss, val/loss,",
    f"{STOPPING}.monitor val/loss --data.split [1,0,0]": "since nothing is validated: watch train/epoch_loss",
    # data
    "--data.split [0.9,0.9]": "must add up to 1",
    "--data.source nofile.csv --data.target y": "nofile.csv",
    "--data.target nocolumn": "nocolumn",
    "--data.source null": "--data.source is needed",
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
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
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
