"""`torchplug.fit(refit=True)`: the model is trained again on training and validation rows, as a fit by hand would."""

import numpy as np
import polars
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

import torchplug
from torchplug import TabularData, use
from torchplug.errors import CheckpointError, ConfigurationError
from torchplug.fitting import refit as module_of_refit
from torchplug.tracking.checkpoint_file import read_checkpoint

OFF = {"mode": "disabled"}
CONFIG = {
    "model": use("mlp", hidden=[8], dropout=0.1),
    "loss": use("mse"),
    "optimizer": use("adam", lr=0.3),
    "scheduler": use("one_cycle"),
}
EPOCHS = 12


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table(rows=80):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, rows))
    y = a * b + 0.5 * generator.normal(size=rows)
    return polars.DataFrame({"a": a, "b": b, "y": y, "two": np.where(y > 0, "high", "low")})


def data_of(target="y", frame=None, **settings):
    frame = table() if frame is None else frame
    return TabularData(frame.drop({"y", "two"} - {target}, strict=False), target, batch_size=16, **settings)


def fit(config=CONFIG, data=None, **options):
    options = {"trainer": {"max_epochs": EPOCHS}, "tracking": OFF, "refit": True} | options
    return torchplug.fit(config, data_of() if data is None else data, **options)


class EndAfter(Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def by_hand(epochs, config=CONFIG, data=None, trainer=None, **options):
    """Weights of a fit on training and validation rows that is ended early."""
    data = data_of() if data is None else data
    data.prepare(torchplug.ComponentModule(**config).data_request())
    rows = np.sort(np.concatenate([data.row_numbers("train"), data.row_numbers("validation")]))
    trainer = {"max_epochs": EPOCHS, "callbacks": [EndAfter(epochs)]} | (trainer or {})
    result = torchplug.fit(config, data.fold(rows, []), trainer=trainer, tracking=OFF, name="hand", **options)
    return read_checkpoint(result.run.last)["state_dict"]


def epochs_of(run):
    return read_checkpoint(run.selected)["epoch"] + 1


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def best_of(result):
    return read_checkpoint(result.run.best)["state_dict"]


def test_it_is_a_fit_on_all_rows_for_the_best_number_of_epochs_of_the_same_plan():
    result, plain = fit(), fit(refit=False)
    losses = result.run.metrics["val/loss"].drop_nulls().to_numpy()
    epochs = epochs_of(result.run)
    assert epochs == len(losses) - np.argmin(losses[::-1]) < EPOCHS
    assert_equal(best_of(result), by_hand(epochs))
    assert result.metrics == plain.metrics
    assert_equal(read_checkpoint(result.run.selected)["state_dict"], best_of(plain))
    assert result.run.outcome["refit"] == {"epochs": epochs, "rows": 64}
    assert result.run.config["refit"] is True


def test_it_is_one_run_whose_best_model_predicts_and_tests():
    result = fit()
    assert torchplug.runs("runs") == [result.run]
    first, again = torchplug.load(result.run.selected), torchplug.load(result.run)
    assert not first.predict(table())["y"].equals(again.predict(table())["y"])
    assert again.intervals(0.5).half_widths.equal(first.intervals(0.5).half_widths)
    least = result.run.metrics["val/loss"].min()
    assert result.baseline.model["val/loss"] == pytest.approx(least, rel=1e-4)


def test_a_temperature_is_kept():
    config = CONFIG | {"loss": "bce", "calibrate": True}
    result = fit(config, data_of("two"))
    first, again = torchplug.load(result.run.selected), torchplug.load(result.run)
    assert again.calibrate
    assert again.temperature == first.temperature != 1.0


def test_preprocessing_learns_from_all_rows():
    split = ["train"] * 40 + ["validation"] * 20 + ["test"] * 20
    frame = table().with_columns(s=polars.Series(split), c=polars.Series(["u", "v"] * 20 + ["w", "x"] * 20))
    result = fit(data=data_of(frame=frame, split_column="s"))
    first, again = torchplug.load(result.run.selected), torchplug.load(result.run)
    assert set(again.preprocessing.feature_names) - set(first.preprocessing.feature_names) == {"c=w", "c=x"}


def test_a_full_batch_optimizer_solves_for_all_rows_again():
    config, limit = {"model": "linear", "optimizer": "closed_form"}, {"max_epochs": 5}
    result = fit(config, trainer=limit)
    data = data_of()
    data.prepare(torchplug.ComponentModule("linear").data_request())
    frame = polars.concat([data.frame_of("train"), data.frame_of("validation")])
    X = np.column_stack([np.ones(64), frame["a"], frame["b"]])
    expected = np.linalg.lstsq(X, frame["y"], rcond=None)[0]
    np.testing.assert_allclose(result.run.coefficients["coefficient"].to_numpy(), expected, rtol=1e-10)
    assert result.run.coefficients.columns[-1] == fit(config, trainer=limit, refit=False).run.coefficients.columns[-1]
    assert result.run.outcome["refit"] == {"epochs": None, "rows": 64}


def test_a_network_of_your_own_starts_anew():
    def network():
        torch.manual_seed(5)
        return torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))

    result = fit(CONFIG | {"model": network()})
    assert_equal(best_of(result), by_hand(epochs_of(result.run), CONFIG | {"model": network()}))


def test_callbacks_that_follow_validation_and_limits_of_the_first_fit_are_left_out():
    early = EarlyStopping("val/loss", patience=2)
    trainer = {"max_epochs": EPOCHS, "min_epochs": 5, "callbacks": [early]}
    result = fit(trainer=trainer)
    assert_equal(best_of(result), by_hand(epochs_of(result.run)))


def test_a_limit_of_steps_grows_with_the_rows():
    result = fit(trainer={"max_epochs": -1, "max_steps": 9})  # 3 batches of 48 rows in an epoch, then 4 of 64
    expected = by_hand(epochs_of(result.run), trainer={"max_epochs": -1, "max_steps": 12})
    assert_equal(best_of(result), expected)


def test_a_refit_that_was_interrupted_goes_on(monkeypatch):
    whole = fit()
    assert epochs_of(whole.run) > 1

    def stop(self, trainer, module):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module_of_refit.StopAfter, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            fit()
    run = next(run for run in torchplug.runs("runs") if run != whole.run)
    assert run.outcome is None
    assert not run.selected.is_file()
    resumed = fit(ckpt_path=run.last)
    assert resumed.run == run
    assert_equal(best_of(resumed), best_of(whole))
    assert run.outcome == whole.run.outcome


@pytest.mark.parametrize("left", ["best.ckpt", "selected.ckpt", "refit/checkpoints/last.ckpt"])
def test_a_process_that_was_killed_before_the_end_leaves_what_is_ended_later(left):
    whole, killed = fit(), fit()
    (killed.run.path / "outcome.json").unlink()
    if left != "selected.ckpt":  # killed before both files had been written
        killed.run.selected.replace(killed.run.best)
    if left == "best.ckpt":  # or anything else of the refit
        for file in sorted((killed.run.path / "refit").rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        (killed.run.path / "refit").rmdir()
    resumed = fit(ckpt_path=killed.run.last)
    assert_equal(best_of(resumed), best_of(whole))
    assert_equal(read_checkpoint(resumed.run.selected)["state_dict"], read_checkpoint(whole.run.selected)["state_dict"])
    assert resumed.run.outcome == whole.run.outcome


@pytest.mark.parametrize("file", ["last", "selected"])
def test_a_longer_fit_is_refitted_anew(file):
    config = CONFIG | {"scheduler": None}
    whole = fit(config, trainer={"max_epochs": 20})
    short = fit(config)
    longer = fit(config, trainer={"max_epochs": 20}, ckpt_path=getattr(short.run, file))
    assert longer.run == short.run
    assert longer.run.outcome == whole.run.outcome
    assert_equal(best_of(longer), best_of(whole))


def test_a_longer_fit_without_refit_keeps_its_own_best_model():
    config = CONFIG | {"scheduler": None}
    whole, short = fit(config, trainer={"max_epochs": 20}, refit=False), fit(config)
    longer = fit(config, trainer={"max_epochs": 20}, ckpt_path=short.run.last, refit=False)
    assert_equal(best_of(longer), best_of(whole))
    assert not longer.run.selected.is_file()


def test_a_refitted_model_is_not_trained_on():
    with pytest.raises(CheckpointError, match="holds a refitted model, whose training is over: resume from"):
        fit(ckpt_path=fit().run.best, trainer={"max_epochs": 20})


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        ({}, {"split": [0.8, 0.0, 0.2]}, "nothing validates"),
        ({}, {"stream": True}, "leave out --data.stream"),
        ({}, {"validation": "v.parquet"}, "leave out --data.validation"),
        ({"scheduler": "plateau"}, {}, "the scheduler follows val/loss"),
    ],
)
def test_what_cannot_be_refitted_is_refused_before_there_is_a_run(config, settings, message):
    frame = table().drop("two")
    frame.write_parquet("v.parquet")
    frame.write_parquet("t.parquet")
    data = TabularData("t.parquet", "y", batch_size=16, **settings)
    with pytest.raises(ConfigurationError, match=f"refit .*{message}"):
        fit(CONFIG | config, data)
    assert torchplug.runs("runs") == []
