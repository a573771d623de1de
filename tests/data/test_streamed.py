import dataclasses
import itertools

import numpy as np
import polars as pl
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from streamed_files import (
    BINARY,
    CLASSES,
    COUNT,
    FEATURES,
    REGRESSION,
    SCALED,
    SPLITS,
    UNCENTERED,
    N,
    mixed_table,
    prepared,
    written,
)
from torchplug.batch import Rows
from torchplug.components.contracts import Loss
from torchplug.data import parquet
from torchplug.data.tabular import TabularData
from torchplug.preprocessing import DataRequirements, value_counts


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(parquet, "_FILE_BLOCK_NUMBERS", 2**8)


@pytest.fixture
def table():
    return mixed_table()


def whole(split, size):
    """All rows of a split, read in pieces of some size."""
    pieces = [split.read(start, min(start + size, split.samples)) for start in range(0, split.samples, size)]
    return Rows(*(torch.cat(tensors) for tensors in zip(*pieces, strict=True)))


def with_gaps(table):
    return table.with_columns(
        a=pl.when(pl.col("id") % 7 == 3).then(float("nan")).otherwise(pl.col("a")),
        b=pl.when(pl.col("id") % 11 == 0).then(None).otherwise(pl.col("b")),
        town=pl.when(pl.col("id") % 13 == 5).then(None).otherwise(pl.col("town")),
        **{
            target: pl.when(pl.col("id") % (17 + j) == 6).then(None).otherwise(pl.col(target))
            for j, target in enumerate(["y", "z", "label", "digit", "yes", "p", "n"])
        },
    )


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (REGRESSION, {"target": "y"}),
        (SCALED, {"target": "y", "weights": "w"}),
        (UNCENTERED, {"target": ["y", "z"], "weights": "w"}),
        (REGRESSION, {"target": "y", "scale": "none", "encode": "reference"}),
        (DataRequirements(full_batch=True), {"target": "y", "max_categories": 3}),
        (DataRequirements(full_batch=True), {"target": "label"}),
        (CLASSES, {"target": "label", "weights": "w", "class_weight": "balanced"}),
        (CLASSES, {"target": "digit", "class_weight": "balanced"}),
        (CLASSES, {"target": ["p", "q"]}),
        (BINARY, {"target": "yes", "weights": "w"}),
        (BINARY, {"target": "p"}),
        (COUNT, {"target": "n"}),
        (REGRESSION, {"target": "y", "features": None, "exclude": ["label"], "weights": "w"}),
    ],
)
@pytest.mark.parametrize("impute", ["error", "mean", "most_frequent", "drop"])
def test_a_streamed_file_is_what_it_is_in_memory(table, tmp_path, request_, options, impute):
    source = written(table if impute == "error" else with_gaps(table), tmp_path)
    options = {"split_column": "split", "impute": impute, **options}
    expected = prepared(source, request_, **options)
    data = prepared(source, request_, stream=True, **options)
    fitted, reference = data.preprocessing, expected.preprocessing
    for mine, other in zip(fitted.encoders, reference.encoders, strict=True):
        number = isinstance(other.fill, float)
        if impute != "drop" or not number:  # where nothing is missing later values are filled in by another number
            assert mine.fill == (pytest.approx(other.fill, rel=1e-14) if number else other.fill)
        assert dataclasses.replace(mine, fill=None) == dataclasses.replace(other, fill=None)
    for mine, other in [
        (fitted.scaling.center, reference.scaling.center),
        (fitted.scaling.scale, reference.scaling.scale),
        (fitted.target_center, reference.target_center),
        (fitted.target_scale, reference.target_scale),
    ]:
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-13)
    assert torch.equal(fitted.scaling.zero_variance, reference.scaling.zero_variance)
    assert fitted.info == reference.info
    assert data.sizes == expected.sizes
    assert data.notes == expected.notes
    for split in SPLITS:
        mine, other = whole(data.rows_of(split), 29), whole(expected.rows_of(split), N)
        for left, right in zip(mine, other, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)
    if expected.target_scale is None:
        assert data.target_scale is None
    else:
        for left, right in zip(data.target_scale, expected.target_scale, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-12, atol=0)


def test_streamed_gaps_are_filled_in_by_the_mean_and_marked(table, tmp_path):
    gaps = with_gaps(table)
    data = prepared(
        written(gaps, tmp_path), REGRESSION, target="y", stream=True, split_column="split", features=["a", "b"]
    )
    used = gaps.drop_nulls("y")
    train, test = (used.filter(split=p).select(pl.col("a", "b").cast(float)).to_numpy() for p in ("train", "test"))
    imputer = SimpleImputer(strategy="mean", add_indicator=True).fit(train)
    scaler = StandardScaler().fit(imputer.transform(train))
    expected = scaler.transform(imputer.transform(test))[:, [0, 2, 1, 3]]
    np.testing.assert_allclose(whole(data.rows_of("test"), 19).features, expected, rtol=1e-9, atol=1e-9)
    assert data.preprocessing.feature_names == ["a", "a=missing", "b", "b=missing"]
    seen, tested = (
        f"a {rows['a'].is_nan().sum()}, b {rows['b'].null_count()} (--data.impute)"
        for rows in (used.filter(pl.col("split") != "test"), used.filter(split="test"))
    )
    filled = "missing values filled in by the mean, marked by a=missing, b=missing"
    left_out = f"left out: {len(gaps) - len(used)} of {N} rows, which have no target (y)"
    assert data.notes[:2] == [left_out, f"{filled}: {seen}"]
    assert data.test_notes == [f"test split: {filled}: {tested}"]


@pytest.mark.parametrize("impute", ["auto", "mean", "most_frequent"])
@pytest.mark.parametrize("stream", [False, True])
def test_columns_without_a_value_in_the_training_part_have_no_effect(table, tmp_path, stream, impute):
    elsewhere = pl.col("split") != "train"
    gaps = table.with_columns(b=pl.when(elsewhere).then("b"), town=pl.when(elsewhere).then("town"), flat=pl.lit(None))
    options = {"split_column": "split", "features": ["a", "b", "town", "flat"], "impute": impute, "stream": stream}
    data = prepared(written(gaps, tmp_path), REGRESSION, target="y", **options)
    assert data.preprocessing.feature_names == ["a", "b", "flat"]
    for split in SPLITS:
        assert not whole(data.rows_of(split), 29).features[:, 1:].any()
    assert "constant in the training split, so without effect: b, flat" in data.notes


@pytest.mark.parametrize("stream", [False, True])
def test_rows_without_one_of_several_targets_are_left_out(table, tmp_path, stream):
    gaps = with_gaps(table)
    options = {"split_column": "split", "features": ["a"], "impute": "mean", "stream": stream}
    data = prepared(written(gaps, tmp_path), REGRESSION, target=["y", "z"], **options)
    used = gaps.drop_nulls(["y", "z"])
    assert list(data.sizes.values()) == [used.filter(split=split).height for split in SPLITS]
    assert data.notes[0] == f"left out: {N - used.height} of {N} rows, which lack one of the targets y, z"


@pytest.mark.parametrize("reference", [False, True])
def test_categories_too_many_to_be_listed_are_pooled_as_in_memory(tmp_path, monkeypatch, reference):
    rng = np.random.default_rng(4)
    shares = 1.0 / np.arange(1, 301) ** 1.3
    person = rng.choice([f"p{i:03d}" for i in range(300)], 2000, p=shares / shares.sum())
    table = pl.DataFrame(
        {"id": np.arange(2000), "person": person, "a": rng.normal(size=2000), "y": rng.normal(size=2000)}
    )
    table = table.with_columns(split=pl.Series(rng.choice(SPLITS, 2000)))
    source, request = written(table, tmp_path), dataclasses.replace(REGRESSION, reference=reference)
    options = {"target": "y", "split_column": "split", "features": ["person", "a"], "max_categories": 6}
    expected = prepared(source, request, **options)
    monkeypatch.setattr(value_counts, "MOST_VALUES", 100)
    data = prepared(source, request, stream=True, **options)
    assert data.preprocessing.feature_names == expected.preprocessing.feature_names
    assert "person=other" in data.preprocessing.feature_names
    for split in SPLITS:
        mine, other = whole(data.rows_of(split), 29), whole(expected.rows_of(split), 2000)
        torch.testing.assert_close(mine.features, other.features, rtol=1e-9, atol=1e-9)
    note = (
        "all but the 5 most frequent categories share a feature: person=other more than 65536 (--data.max_categories)"
    )
    assert note in data.notes
    assert not any("lacks" in note for note in data.notes)


def test_carried_preprocessing_is_used_and_not_fitted(table, tmp_path):
    source = written(table, tmp_path)
    carried = prepared(source, REGRESSION, target="y").preprocessing
    request = DataRequirements("regression", preprocessing=carried, full_batch=True)
    data = prepared(source, request, target="y", stream=True, split_column="split")
    assert data.preprocessing is carried
    expected = carried.features(table.filter(split="test"))
    assert torch.equal(whole(data.rows_of("test"), 17).features, expected)


def test_own_files_replace_splits(table, tmp_path):
    source = written(table, tmp_path)
    table.head(33).write_parquet(tmp_path / "own.parquet")
    data = prepared(source, REGRESSION, target="y", stream=True, test=tmp_path / "own.parquet", split=[0.6, 0.2, 0.2])
    assert data.sizes["test"] == 33
    assert data.sizes["train"] + data.sizes["validation"] == N
    assert abs(data.sizes["train"] - 0.75 * N) < 4 * np.sqrt(N * 0.75 * 0.25)
    expected = data.preprocessing.features(table.head(33))
    assert torch.equal(whole(data.rows_of("test"), 8).features, expected)


# ---------------------------------------------------------------------- which rows


def ids(data, split, size=23):
    """The id of each row of a split; it is the only feature, as it is given."""
    return whole(data.rows_of(split), size).features[:, 0].long().tolist()


PLAIN = {"target": "y", "features": ["id"], "scale": "none", "stream": True}


@pytest.mark.parametrize(("split", "rows"), [([0.6, 0.2, 0.2], 37), ([0.5, 0.5], 400), ([1, 0, 0], 5)])
def test_splits_hold_each_row_once_whatever_the_row_groups(table, tmp_path, split, rows):
    data = prepared(written(table, tmp_path, rows), REGRESSION, split=split, seed=3, **PLAIN)
    found = [ids(data, name) for name in SPLITS if data.sizes[name]]
    assert sorted(itertools.chain(*found)) == list(range(N))
    assert all(rows == sorted(rows) for rows in found)
    for drawn, ratio in zip(found, split, strict=False):
        assert abs(len(drawn) - ratio * N) <= 4 * np.sqrt(N * ratio * (1 - ratio))
    again = prepared(written(table, tmp_path, 101), REGRESSION, split=split, seed=3, **PLAIN)
    assert [ids(again, name) for name in SPLITS if again.sizes[name]] == found
    other = prepared(written(table, tmp_path), REGRESSION, split=split, seed=4, **PLAIN)
    assert (ids(other, "train") == found[0]) == (split[0] == 1)


def test_rows_may_be_read_in_any_order(table, tmp_path):
    data = prepared(written(table, tmp_path), REGRESSION, target="y", stream=True)
    split = data.train_dataloader().training_set
    everything = whole(split, split.samples)
    for start, stop in [(0, 1), (100, 180), (3, 3), (split.samples - 1, split.samples), (split.samples, split.samples)]:
        for piece, rows in zip(split.read(start, stop), everything, strict=True):
            assert torch.equal(piece, rows[start:stop])


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1024, "full"])
def test_ranks_share_an_evaluated_split(table, tmp_path, world, batch_size, monkeypatch):
    monkeypatch.setattr("torchplug.data.batch_sizes._EVALUATION_ROWS", 13)
    data = prepared(written(table, tmp_path), REGRESSION, batch_size=batch_size, **PLAIN)
    split = data.rows_of("validation")
    size = {"full": 13}.get(batch_size, batch_size)
    epochs = [list(split.loader(torch.float64, batch_size=size, rank=r, world=world)) for r in range(world)]
    assert len({len(batches) for batches in epochs}) == 1
    together = [b for position in zip(*epochs, strict=True) for b in position]
    assert torch.cat([b.features for b in together])[:, 0].long().tolist() == ids(data, "validation")
    if batch_size == "full":
        assert [len(b.weight) for b in data.val_dataloader()][:-1] == [13] * (len(data.val_dataloader()) - 1)


@pytest.mark.parametrize("world", [1, 2])
def test_a_shuffled_epoch_holds_every_row_once(table, tmp_path, world):
    request = DataRequirements("regression", "mse")
    data = prepared(written(table, tmp_path), request, batch_size=7, seed=5, **PLAIN)
    rows, split = ids(data, "train"), data.rows_of("train")
    loaders = [
        split.loader(torch.float32, batch_size=7, shuffle=True, seed=5, rank=r, world=world) for r in range(world)
    ]
    orders = []
    for epoch in range(2):
        for loader in loaders:
            loader.set_epoch(epoch)
        epochs = [list(loader) for loader in loaders]
        assert len({len(batches) for batches in epochs}) == 1
        together = [batch for position in zip(*epochs, strict=True) for batch in position]
        seen = torch.cat([batch.features for batch in together])[:, 0].long().tolist()
        assert sorted(seen) == rows
        assert seen != rows
        for batches in zip(*epochs, strict=True):
            assert {batch.samples for batch in batches} == {sum(len(batch.weight) for batch in batches)}
        for loader, batches in zip(loaders, epochs, strict=True):
            for position, batch in enumerate(batches):
                assert [rows[i] for i in loader.rows(position)] == batch.features[:, 0].long().tolist()
                assert batch.features.dtype == torch.float32
        orders.append(seen)
    assert orders[0] != orders[1]
    # neighbours in the file come from everywhere in it
    assert np.abs(np.diff(orders[0])).mean() > N / 20


def test_an_order_depends_on_seed_and_epoch_and_can_be_gone_on_with(table, tmp_path):
    data = prepared(written(table, tmp_path), DataRequirements("regression"), batch_size=10, seed=5, **PLAIN)

    def epoch(number, taken=0):
        loader = data.train_dataloader()
        loader.load_state_dict({"epoch": number, "position": taken})
        loader.set_epoch(number)
        return [batch.features[:, 0].tolist() for batch in loader]

    assert epoch(1) == epoch(1)
    assert epoch(1) != epoch(2)
    assert epoch(1, taken=6) == epoch(1)[6:]


# ---------------------------------------------------------------------- what the trainer gets


class Recorder(LightningModule):
    """Takes whatever comes as a batch."""

    def __init__(self, request):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.request, self.seen, self.evaluated = request, [], []

    def data_request(self):
        return self.request

    def training_step(self, batch, index):
        self.seen.append(batch)
        return self.layer.weight.sum()

    def validation_step(self, batch, index):
        self.evaluated.append(batch)

    def predict_step(self, batch, index):
        return batch.features

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer(path, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", enable_checkpointing=False, default_root_dir=path, **quiet, **options)


@pytest.mark.parametrize("stream", [False, True])
def test_the_training_set_is_one_object_in_double_precision(table, tmp_path, stream):
    module = Recorder(CLASSES)
    data = TabularData(written(table, tmp_path), "label", features=FEATURES, stream=stream)
    trainer(tmp_path, max_epochs=3).fit(module, data)
    assert len(module.seen) == 3
    assert len({id(item) for item in module.seen}) == 1
    (item, *_) = module.seen
    assert not hasattr(item, "to")
    assert not hasattr(item, "__iter__")
    assert not hasattr(item, "__dataclass_fields__")
    assert item.samples == data.sizes["train"]
    rows = item.read(0, 5)
    assert [tensor.dtype for tensor in rows] == [torch.float64, torch.int64, torch.float64]
    assert {batch.features.dtype for batch in module.evaluated} == {torch.float64}
    assert {batch.target.dtype for batch in module.evaluated} == {torch.int64}
    assert any("sees all" in note and "batch_size 32 is not used" in note for note in data.notes)
    if not stream:
        assert item.read(3, 9).features.data_ptr() == item.read(0, 9).features[3:].data_ptr()


def test_a_full_batch_needs_no_note(table):
    data = prepared(table, REGRESSION, target="y", batch_size="full")
    assert data.notes == ["constant in the training split, so without effect: flat"]


def test_minibatches_of_a_stream_train(table, tmp_path):
    module = Recorder(DataRequirements("regression", "mse"))
    data = TabularData(written(table, tmp_path), "y", features=FEATURES, batch_size=16, stream=True)
    trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2).fit(module, data)
    assert sum(len(batch.weight) for batch in module.seen) == data.sizes["train"]
    assert {batch.samples for batch in module.seen[:-2]} == {32}
    assert sum(len(batch.weight) for batch in module.evaluated) >= data.sizes["validation"]


def test_prediction_takes_every_row_and_no_target(table, tmp_path):
    source = written(table, tmp_path)
    fitted = prepared(source, REGRESSION, target="y").preprocessing
    module = Recorder(DataRequirements("regression", preprocessing=fitted, full_batch=True))
    table.select(FEATURES[::-1]).write_parquet(tmp_path / "new.parquet", row_group_size=41)
    data = TabularData(tmp_path / "new.parquet", stream=True)
    predicted = torch.cat(trainer(tmp_path).predict(module, data))
    assert torch.equal(predicted, fitted.features(table))
    assert data.predict_dataloader().rows(0).tolist() == list(range(N))


def test_a_loss_sees_every_training_target(table, tmp_path):
    class Collecting(Loss):
        kind = "multiclass"
        seen = ()

        def check(self, target):
            self.seen = (*self.seen, *target.tolist())

    data, loss = prepared(written(table, tmp_path), CLASSES, target="label", stream=True), Collecting()
    data.check_target(loss)
    assert list(loss.seen) == whole(data.rows_of("train"), N).target.tolist()


def test_the_fingerprint_is_of_the_content(table, tmp_path):
    def found(rows, frame):
        return TabularData(written(frame, tmp_path, rows), "y", stream=True).fingerprint

    assert found(37, table) == found(200, table)
    assert found(37, table) != found(37, table.with_columns(a=pl.col("a") + (pl.col("id") == 377)))


def test_labels_are_drawn_unstratified_and_that_is_said(table, tmp_path):
    data = prepared(written(table, tmp_path), CLASSES, target="label", stream=True)
    assert any("each class has nearly, not exactly, its share" in note for note in data.notes)
    plain = prepared(written(table, tmp_path), CLASSES, target="label", stream=True, stratify=False)
    assert not any("nearly" in note for note in plain.notes)
