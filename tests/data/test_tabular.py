import inspect
import itertools

import numpy as np
import polars as pl
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from torchplug.components.contracts import Loss
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, DataError
from torchplug.preprocessing import DataRequirements, Preprocessing
from torchplug.tables import fingerprint, read

CLASSES = DataRequirements(kind="multiclass", loss="cross_entropy")
NUMBERS = DataRequirements(kind="regression", loss="mse")


def prepared(source, request=NUMBERS, **options):
    data = TabularData(source, **options)
    data.prepare(request)
    return data


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "id": np.arange(60),
            "a": generator.normal(size=60),
            "b": generator.normal(size=60),
            "town": np.array(["A", "B", "C"])[np.arange(60) % 3],
            "w": generator.uniform(1, 5, 60),
            "y": generator.normal(size=60),
        }
    )


def ids(data):
    return [data.frame_of(split)["id"].to_list() for split in ("train", "validation", "test")]


# ---------------------------------------------------------------------- splits


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ([0.6, 0.2, 0.2], [36, 12, 12]),
        ([0.8, 0.1, 0.1], [48, 6, 6]),
        ([0.8, 0.2], [48, 12, 0]),
        ([1, 0, 0], [60, 0, 0]),
    ],
)
def test_ratios_divide_the_rows(table, split, sizes):
    data = prepared(table, target="y", split=split)
    assert list(data.sizes.values()) == sizes
    assert sorted(itertools.chain(*ids(data))) == list(range(60))
    assert any("nothing is validated" in note for note in data.notes) == (sizes[1] == 0)


def test_scaling_is_fitted_on_the_training_part_alone(table):
    data = prepared(table, target="y", exclude=["id", "town", "w"])
    scaler = StandardScaler().fit(data.frame_of("train").select("a", "b").to_numpy())
    for split, loader in (("train", None), ("validation", data.val_dataloader()), ("test", data.test_dataloader())):
        if loader is not None:
            (batch,) = loader
            expected = scaler.transform(data.frame_of(split).select("a", "b").to_numpy())
            np.testing.assert_allclose(batch.features.numpy(), expected.astype(np.float32), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(data.preprocessing.scaling.center.numpy(), scaler.mean_, rtol=1e-12)


def test_classes_are_stratified():
    data = prepared("iris", CLASSES)
    assert [np.bincount(data.frame_of(p)["target"]).tolist() for p in ("train", "validation", "test")] == [
        [30] * 3,
        [10] * 3,
        [10] * 3,
    ]
    plain = prepared("iris", CLASSES, stratify=False)
    assert np.bincount(plain.frame_of("train")["target"]).tolist() != [30] * 3


def test_seed_decides_the_split(table):
    assert ids(prepared(table, target="y", seed=1)) == ids(prepared(table, target="y", seed=1))
    assert ids(prepared(table, target="y", seed=1)) != ids(prepared(table, target="y", seed=2))


def test_split_column(table):
    named = pl.Series("split", ["train"] * 40 + ["test"] * 5 + ["validation"] * 15)
    data = prepared(table.with_columns(named), target="y", split_column="split")
    assert ids(data) == [list(range(40)), list(range(45, 60)), list(range(40, 45))]
    assert "split" not in data.preprocessing.columns


def test_groups_and_time(table):
    grouped = prepared(table.with_columns(g=pl.col("id") // 3), target="y", group="g")
    owners = [{row // 3 for row in split} for split in ids(grouped)]
    assert not owners[0] & owners[1]
    assert not owners[0] & owners[2]
    assert "g" not in grouped.preprocessing.columns
    shuffled = table.with_columns(day=pl.Series([f"2024-01-{1 + i % 30:02d}" for i in range(60)]))
    timed = prepared(shuffled, target="y", time="day")
    assert timed.frame_of("train")["day"].max() < timed.frame_of("validation")["day"].min()
    assert timed.frame_of("validation")["day"].max() < timed.frame_of("test")["day"].min()


@pytest.mark.parametrize("own", [("validation",), ("test",), ("validation", "test")])
def test_own_files_replace_splits(table, tmp_path, own):
    table.head(7).write_csv(tmp_path / "own.csv")
    data = prepared(table, target="y", **dict.fromkeys(own, tmp_path / "own.csv"))
    assert all(data.sizes[split] == 7 for split in own)
    # 0.6 to 0.2 of what is left
    assert data.sizes["train"] == (60 if len(own) == 2 else 45)


# ---------------------------------------------------------------------- weights


def test_weights_have_mean_one_on_each_split(table):
    data = prepared(table, target="y", weights="w", batch_size="full", shuffle=False)
    for split, loader in (("train", data.train_dataloader()), ("validation", data.val_dataloader())):
        (batch,) = loader
        raw = data.frame_of(split)["w"].to_numpy()
        np.testing.assert_allclose(batch.weight.numpy(), raw / raw.mean(), rtol=1e-6)
    assert "w" not in data.preprocessing.columns


@pytest.mark.parametrize("weights", [None, "w"])
def test_balanced_classes_weigh_alike(table, weights):
    frame = table.with_columns(y=pl.Series(["u"] * 40 + ["v"] * 15 + ["w"] * 5))
    data = prepared(
        frame, CLASSES, target="y", weights=weights, class_weight="balanced", batch_size="full", exclude=["w"]
    )
    (batch,) = data.train_dataloader()
    train = data.frame_of("train")
    labels, base = train["y"].to_numpy(), train["w"].to_numpy() if weights else np.ones(36)
    factors = dict(zip("uvw", compute_class_weight("balanced", classes=np.array(list("uvw")), y=labels), strict=True))
    expected = base * np.array([factors[label] for label in labels])
    np.testing.assert_allclose(batch.weight.numpy(), expected / expected.mean(), rtol=1e-6)
    (evaluation,) = data.val_dataloader()
    weights = data.frame_of("validation")["w"].to_numpy() if weights else np.ones(12)
    np.testing.assert_allclose(evaluation.weight.numpy(), weights / weights.mean(), rtol=1e-6)


# ---------------------------------------------------------------------- what the module asks


def test_the_request_decides_where_the_user_does_not(table):
    columns = {"target": "y", "features": ["a", "town"]}
    plain = prepared(table, **columns)
    assert plain.preprocessing.feature_names == ["a", "town=A", "town=B", "town=C"]
    assert plain.preprocessing.target_scale.tolist() == [1.0]
    linear = prepared(table, DataRequirements(kind="regression", reference=True, standardize_target=True), **columns)
    assert linear.preprocessing.feature_names == ["a", "town=B", "town=C"]
    assert linear.preprocessing.target_scale[0] == pytest.approx(linear.frame_of("train")["y"].std(ddof=0))
    said = DataRequirements(kind="regression", reference=True, standardize_target=True)
    own = prepared(table, said, encode="onehot", standardize_target=False, **columns)
    assert own.preprocessing.feature_names == ["a", "town=A", "town=B", "town=C"]
    assert own.preprocessing.target_scale.tolist() == [1.0]


def test_carried_preprocessing_is_used_and_not_fitted(table):
    first = prepared(table, target="y", split=[0.8, 0.2], exclude=["id"])
    carried = Preprocessing.from_state(first.preprocessing.state())
    second = TabularData(table.with_columns(pl.col("a") * 100), target="y", exclude=["id"])
    second.prepare(DataRequirements(kind="regression", preprocessing=carried))
    assert second.preprocessing is carried
    expected = carried.features(second.frame_of("test"))
    (batch,) = second.test_dataloader()
    assert torch.equal(batch.features, expected.float())


def test_preparing_again_for_the_same_request_does_nothing(table):
    data = prepared(table, target="y")
    fitted, made = data.preprocessing, data.rows_of("train")
    data.prepare(DataRequirements(kind="regression", loss="mse"))
    data.prepare(DataRequirements(kind="regression", loss="mse", preprocessing=fitted))
    assert data.rows_of("train") is made
    data.prepare(DataRequirements(kind="regression", loss="l1", standardize_target=True))
    assert data.preprocessing is not fitted


def test_rows_with_gaps_can_be_dropped(table):
    gaps = table.with_columns(
        a=pl.when(pl.col("id") == 3).then(None).otherwise(pl.col("a")),
        y=pl.when(pl.col("id") == 5).then(float("nan")).otherwise(pl.col("y")),
    )
    data = prepared(gaps, target="y", impute="drop")
    assert sorted(itertools.chain(*ids(data))) == [i for i in range(60) if i not in (3, 5)]
    assert data.notes[:2] == [
        "left out: 1 of 60 rows, which have no target (y)",
        "left out: 1 of 60 rows, which have missing values (--data.impute drop)",
    ]
    assert data.preprocessing.features(gaps).isfinite().all(), "the model predicts all rows, also those left out"


def test_messages_count_rows_of_the_file_also_after_dropping(table):
    gaps = table.with_columns(a=pl.when(pl.col("id") < 10).then(None).otherwise(pl.col("a")))
    bad = gaps.with_columns(w=pl.when(pl.col("id") == 30).then(-1.0).otherwise(pl.col("w")))
    with pytest.raises(DataError, match="-1 in row 31"):
        prepared(bad, target="y", weights="w", impute="drop")


def test_training_target_and_fingerprint(table):
    data = prepared(table, DataRequirements(kind="regression", standardize_target=True), target="y")
    truth = data.frame_of("train")["y"].to_numpy()
    location, spread = data.target_scale
    np.testing.assert_allclose([location.item(), spread.item()], [truth.mean(), truth.std()], rtol=1e-12)
    assert prepared("iris", CLASSES).target_scale is None
    assert data.fingerprint == fingerprint(table)
    assert TabularData("iris").fingerprint == fingerprint(read("iris"))


def test_a_loss_sees_the_target_as_it_will_get_it(table):
    class Suspicious(Loss):
        kind = "regression"

        def check(self, target):
            self.seen = target

    loss, data = Suspicious(), prepared(table, DataRequirements(kind="regression", standardize_target=True), target="y")
    data.check_target(loss)
    truth = data.frame_of("train")["y"].to_numpy()
    np.testing.assert_allclose(loss.seen[:, 0].numpy(), (truth - truth.mean()) / truth.std(), rtol=1e-12, atol=1e-14)


def test_settings_are_saved_plainly(table, tmp_path):
    table.write_csv(tmp_path / "t.csv")
    data = TabularData(
        tmp_path / "t.csv", "y", split=np.array([0.5, 0.25, 0.25]), seed=np.int64(3), batch_size=np.int64(8)
    )
    saved = dict(data.hparams)
    assert saved["source"] == str(tmp_path / "t.csv")
    assert saved["split"] == [0.5, 0.25, 0.25]
    assert [type(saved[key]) for key in ("seed", "batch_size")] == [int, int]
    assert set(saved) == set(inspect.signature(TabularData).parameters)
    assert "source" not in TabularData(table, "y").hparams


def test_the_command_line_knows_every_setting():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TabularData, "data")
    arguments = "--data.source=x.csv --data.target=[u,v] --data.split=[1,0,0] --data.batch_size=full --data.impute=mean"
    data = parser.instantiate(parser.parse_args(arguments.split())).data
    assert data.hparams["target"] == ["u", "v"]
    assert data.hparams["split"] == [1.0, 0.0, 0.0]
    assert data.batch_size == "full"
    assert parser.parse_args(["--data.source=x.csv", "--data.target=y"]).data.target == "y"


def test_carried_preprocessing_still_needs_the_columns_that_divide(table):
    carried = prepared(table, target="y").preprocessing
    data = TabularData(table, "y", group="family")
    with pytest.raises(DataError, match="has no column family"):
        data.prepare(DataRequirements(kind="regression", preprocessing=carried))


# ---------------------------------------------------------------------- with a trainer


class Recorder(LightningModule):
    """Trains a little and remembers what it saw; can be interrupted in the middle of a batch."""

    def __init__(self, features, request=NUMBERS, interrupt_at=None):
        super().__init__()
        self.layer = torch.nn.Linear(features, 1)
        self.request, self.interrupt_at = request, interrupt_at
        self.seen, self.predicted = [], []

    def data_request(self):
        return self.request

    def training_step(self, batch, index):
        if (self.current_epoch, index) == self.interrupt_at:
            raise RuntimeError("interrupted")
        self.seen.append((self.current_epoch, index, tuple(batch.target[:, 0].tolist()), *batch[3:]))
        return (self.layer(batch.features) - batch.target).square().sum() / batch.samples

    def validation_step(self, batch, index):
        assert not self.training

    def predict_step(self, batch, index):
        return batch.features

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class SaveOnException(Callback):
    def __init__(self, path):
        self.path = path

    def on_exception(self, trainer, module, exception):
        trainer.save_checkpoint(self.path)


def trainer(path, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    defaults = {"accelerator": "cpu", "enable_checkpointing": False, "default_root_dir": path}
    return Trainer(**{**defaults, **quiet, "max_epochs": 2, **options})


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*")
def test_resuming_sees_exactly_the_batches_that_are_left(table, tmp_path, shuffle, window):
    def fit(checkpoint=None, **options):
        torch.manual_seed(0)
        module = Recorder(7)
        data = TabularData(table, "y", batch_size=5, shuffle=shuffle)
        trainer(tmp_path, accumulate_grad_batches=window, **options).fit(
            module, data, ckpt_path=checkpoint, weights_only=True
        )
        return module

    saver = ModelCheckpoint(tmp_path / "c", every_n_train_steps=2, save_top_k=-1)
    whole = fit(callbacks=[saver], enable_checkpointing=True)
    checkpoints = sorted((tmp_path / "c").iterdir())
    assert len(checkpoints) >= 3
    for checkpoint in checkpoints:
        resumed = fit(checkpoint)
        assert resumed.seen == whole.seen[len(whole.seen) - len(resumed.seen) :]
        assert torch.equal(resumed.layer.weight, whole.layer.weight)


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*")
def test_an_interrupted_batch_is_seen_again(table, tmp_path):
    def data():
        return TabularData(table, "y", batch_size=5)

    whole = Recorder(7)
    trainer(tmp_path).fit(whole, data())
    broken = Recorder(7, interrupt_at=(1, 4))
    with pytest.raises(RuntimeError, match="interrupted"):
        trainer(tmp_path, callbacks=[SaveOnException(tmp_path / "broken.ckpt")]).fit(broken, data())
    resumed = Recorder(7)
    trainer(tmp_path).fit(resumed, data(), ckpt_path=tmp_path / "broken.ckpt", weights_only=True)
    assert [row[:3] for row in broken.seen + resumed.seen] == [row[:3] for row in whole.seen]


@pytest.mark.parametrize("limit", [4, 0.5])
def test_windows_know_limited_epochs(table, tmp_path, limit):
    module = Recorder(7)
    trainer(tmp_path, max_epochs=1, accumulate_grad_batches=3, limit_train_batches=limit).fit(
        module, TabularData(table, "y", batch_size=5)
    )
    assert [row[3:] for row in module.seen] == [(15, 3)] * 3 + [(5, 1)]


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("64-true", torch.float64)])
def test_batches_come_in_the_trainers_precision(table, tmp_path, precision, dtype):
    module, data = Recorder(7), TabularData(table, "y", weights="w", features=["a", "b", "town", "id"])
    module.layer = torch.nn.Linear(6, 1)
    trainer(tmp_path, precision=precision, max_epochs=1).fit(module, data)
    for batch in (*data.train_dataloader(), *data.val_dataloader()):
        assert {batch.features.dtype, batch.target.dtype, batch.weight.dtype} == {dtype}


def test_training_without_validation_runs(table, tmp_path):
    module, data = Recorder(7), TabularData(table, "y", split=[1, 0, 0])
    runner = trainer(tmp_path, max_epochs=1)
    runner.fit(module, data)
    assert sum(len(row[2]) for row in module.seen) == 60
    assert runner.limit_val_batches == 1.0
    with pytest.raises(DataError, match="no validation split"):
        trainer(tmp_path).validate(module, data)
    with pytest.raises(DataError, match="no test split"):
        data.test_dataloader()


def test_overfitting_on_a_few_batches_sees_the_same_ones(table, tmp_path):
    module = Recorder(7)
    trainer(tmp_path, overfit_batches=2).fit(module, TabularData(table, "y", batch_size=5))
    assert [row[2] for row in module.seen[:2]] == [row[2] for row in module.seen[2:]]


def test_prediction_takes_every_row_and_no_target(table, tmp_path):
    fitted = prepared(table, target="y", exclude=["id", "w"]).preprocessing
    module = Recorder(5, DataRequirements(kind="regression", preprocessing=fitted))
    table.select("town", "b", "a").write_csv(tmp_path / "new.csv")
    runner, data = trainer(tmp_path), TabularData(tmp_path / "new.csv")
    (predicted,) = runner.predict(module, data)
    assert torch.equal(predicted, fitted.features(table).float())
    assert data.predict_dataloader().rows(0).tolist() == list(range(60))
    with pytest.raises(ConfigurationError, match="nothing to predict with"):
        trainer(tmp_path).predict(Recorder(5), data)
