"""Tables that have little to say: the MLP's recipe fits a finite model, or refuses them in one line."""

import numpy as np
import polars as pl
import pytest

SHORT = ("--trainer.max_epochs", "3", "--model.model.hidden", "[8]")
SPLIT = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
TWO = ["p", "q"] * 30


def table(**changed):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 60))
    columns = {"a": a, "b": b, "c": generator.choice(["u", "v"], 60), "y": 1.0 + 2.0 * a - b}
    return pl.DataFrame({name: column for name, column in {**columns, **changed}.items() if column is not None})


def divided(**changed):
    return table(s=SPLIT, **changed)


def in_training(column, other):
    """A column that has other values outside of the training split."""
    return np.where(SPLIT == "train", column, other)


NORMAL = np.random.default_rng(1).normal(size=60)
FITTED = {
    "a constant number": table(k=np.full(60, 7.5)),
    "a constant category": table(k=["x"] * 60),
    "a single constant feature": table(a=None, b=None, c=["x"] * 60),
    "a single feature": table(b=None, c=None),
    "categories alone": table(a=None, b=None, d=["k", "l", "m"] * 20),
    "categories that occur once": table(c=["u", "v", "w", *(["x", "z"] * 29)][:60]),
    "a number that is constant in training": divided(k=in_training(1.0, NORMAL)),
    "a category that is constant in training": divided(k=in_training("x", np.array(TWO))),
    "columns without values": table(m=[None] * 60, n=[""] * 60),
    "five rows": table().head(5),
    "five rows of two classes": table(y=TWO).head(5),
    "two rows of each class": table(y=np.repeat(list("pqrs"), 15)).filter(pl.Series(np.arange(60) % 15 < 2)),
    "a class that occurs once": table(y=["r", *TWO[1:]]),
    "a class that validation lacks": divided(y=np.where(SPLIT == "train", ["p", "q", "r"] * 20, TWO)),
    "one class in validation": divided(y=np.where(SPLIT == "validation", "p", TWO)),
    "three rows again and again": pl.concat([table().head(3)] * 20),
    "features in extreme units": table(a=NORMAL * 1e30, b=NORMAL**2 * 1e-30),
    "features near the ends of double precision": table(a=NORMAL * 1e300, b=NORMAL**2 * 1e-300),
    "a target in large units": table(y=NORMAL * 1e30),
    "a target in small units": table(y=NORMAL * 1e-30),
    "more columns than rows": pl.DataFrame(
        {f"f{i}": np.random.default_rng(i).normal(size=60) for i in range(200)}
    ).with_columns(y=NORMAL),
}
REFUSED = {
    "a constant target": (table(y=np.full(60, 3.25)), "is 3.25 in every row of the training split"),
    "one class": (table(y=["p"] * 60), "has one class (p) in the training split"),
    "one class in training": (divided(y=in_training("p", np.array(TWO))), "has one class (p) in the training split"),
    "a class that training lacks": (divided(y=in_training(TWO, "r")), "has the label 'r' in row 41"),
    "one row again and again": (pl.concat([table().head(1)] * 60), "in every row of the training split"),
    "an infinite feature": (table(a=[np.inf, *NORMAL[1:]]), "column 'a' has 1 infinite value, first in row 1"),
    "an infinite target": (table(y=[np.inf, *NORMAL[1:]]), "column 'y' has 1 infinite value, first in row 1"),
    "three rows": (table().head(3), "leaves the test split empty"),
    "no feature with values": (table(a=None, b=None, c=[None] * 60), "no column is left to predict from"),
}
FAR = {
    "far targets": (divided(y=np.where(np.arange(60) == 7, 1e6, NORMAL)), "target so far from all others"),
    "a far target in validation": (divided(y=np.where(np.arange(60) == 44, 1e6, NORMAL)), "that val/loss is about it"),
    "a far feature in validation": (divided(a=np.where(np.arange(60) == 44, 1e6, NORMAL)), "(row 45)"),
    "a far feature": (table(a=np.where(np.arange(60) == 7, 1e9, NORMAL)), "(1e+09 in row 8)"),
}


@pytest.fixture
def fitted(run, tmp_path):
    """Fit a table with some flags: exit status, output, errors."""

    def fit(frame, *flags):
        frame.write_csv(tmp_path / "t.csv")
        own = ["--data.split_column", "s"] if "s" in frame.columns else []
        return run(["fit", "--data.source", "t.csv", "--data.target", "y", *SHORT, *own, *flags], "mlp")

    return fit


def finite_predictions(run, tmp_path):
    status, _, errors = run(["predict", "--data.source", "t.csv", "--output", "p.csv"], "mlp")
    assert (status, errors) == (0, "")
    predicted = pl.read_csv(tmp_path / "p.csv", infer_schema_length=None)
    numbers = predicted.select(pl.selectors.numeric()).to_numpy()
    assert np.isfinite(numbers).all()
    return predicted


@pytest.mark.filterwarnings("ignore:val. .* undefined on this split")
@pytest.mark.parametrize("kind", FITTED)
def test_a_poor_table_gives_a_finite_model(run, tmp_path, fitted, kind):
    status, _, errors = fitted(FITTED[kind])
    assert status == 0, errors
    frame, predicted = FITTED[kind], finite_predictions(run, tmp_path)
    if frame["y"].dtype.is_numeric():
        middle, spread = frame["y"].median(), frame["y"].max() - frame["y"].min()
        assert (predicted["y"] - middle).abs().max() <= 3 * spread


@pytest.mark.parametrize("kind", REFUSED)
def test_a_table_that_says_nothing_is_refused_in_a_line_without_a_run(tmp_path, fitted, kind):
    frame, expected = REFUSED[kind]
    status, _, errors = fitted(frame)
    assert (status, errors.count("\n")) == (2, 1)
    assert expected in errors
    assert not [*tmp_path.glob("runs/*/*")]


@pytest.mark.parametrize("kind", FAR)
def test_far_values_are_said(run, tmp_path, fitted, kind):
    frame, expected = FAR[kind]
    status, printed, _ = fitted(frame, "--data.scale", "standard")  # the recipe's scaling clips features
    assert status == 0
    assert [line for line in printed.splitlines() if line.startswith("note: ") and expected in line]
    finite_predictions(run, tmp_path)
