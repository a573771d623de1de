import numpy as np
import polars as pl
import pytest
import torch

from torchplug.errors import DataError
from torchplug.preprocessing import TargetFit


def code(values, kind, columns=("y",), train=None):
    frame = values if isinstance(values, pl.DataFrame) else pl.DataFrame({"y": values})
    goal = TargetFit(frame, columns, kind, "some_loss")
    goal.check(frame, "t.csv")
    goal.update(frame if train is None else frame[train])
    coding = goal.coding(goal.reading("t.csv"), "t.csv", standardize=False, center=True)
    return coding, coding.encode(frame, "t.csv")


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["no", "yes", "no"], ("no", "yes")),
        ([True, False, True], (False, True)),
        ([2, 1, 2], (1, 2)),
        ([0.0, 1.0, 1.0], (0, 1)),
        ([-1.0, 1.0, -1.0], (-1, 1)),
    ],
)
@pytest.mark.parametrize("kind", ["binary", "margin", "multiclass"])
def test_labels_are_indices_into_sorted_classes(values, classes, kind):
    coding, target = code(values, kind)
    assert coding.info.classes == classes
    assert [type(label) for label in coding.info.classes] == [type(label) for label in classes]
    expected = np.searchsorted(np.unique(values), values)
    if kind == "multiclass":
        assert target.dtype == torch.int64
        assert target.tolist() == expected.tolist()
    else:
        assert target.dtype == torch.float64
        assert target.tolist() == [[float(index)] for index in expected]


def test_probabilities_between_the_classes_are_soft_targets():
    coding, target = code([0.0, 0.25, 1.0], "binary")
    assert coding.info.classes is None
    assert target.tolist() == [[0.0], [0.25], [1.0]]
    assert coding.decode(torch.tensor([[0.5]]), []).to_dict(as_series=False) == {"y": [0.5]}


def test_several_columns_of_probabilities_are_the_classes():
    frame = pl.DataFrame({"a": [0.2, 1.0], "b": [0.8, 0.0]})
    coding, target = code(frame, "multiclass", ("a", "b"))
    assert coding.info.classes == ("a", "b")
    assert target.tolist() == [[0.2, 0.8], [1.0, 0.0]]
    decoded = coding.decode(torch.tensor([[0.3, 0.7]], dtype=torch.float64), [])
    assert decoded.to_dict(as_series=False) == {"label": ["b"], "probability_a": [0.3], "probability_b": [0.7]}


def test_several_regression_targets():
    frame = pl.DataFrame({"a": [1, 2], "b": [0.5, 1.0]})
    coding, target = code(frame, "regression", ("a", "b"))
    assert coding.info.columns == ("a", "b")
    assert target.tolist() == [[1.0, 0.5], [2.0, 1.0]]


@pytest.mark.parametrize(
    ("values", "kind"), [(["a", "b"], "multiclass"), ([True, False], "multiclass"), ([1, 2], "regression")]
)
def test_without_a_loss_the_type_decides(values, kind):
    assert code(values, None)[0].kind == kind


def test_many_different_whole_numbers_are_measurements():
    # 214 scores in 442 rows, as the diabetes set has them
    with pytest.raises(DataError, match="real values"):
        code([float(i % 214) for i in range(442)], "multiclass")
    assert len(code([i % 50 for i in range(500)], "multiclass")[0].info.classes) == 50


def test_labels_mean_the_same_in_files_that_store_them_differently():
    coding, _ = code([1, 2, 1], "multiclass")
    assert coding.encode(pl.DataFrame({"y": ["2", "1"]}), "t").tolist() == [1, 0]
    assert coding.encode(pl.DataFrame({"y": [2.0, 1.0]}), "t").tolist() == [1, 0]
    texts, _ = code(["1", "2", "x"], "multiclass")
    assert texts.encode(pl.DataFrame({"y": [2, 1]}), "t").tolist() == [1, 0]


def test_binary_predictions_get_labels_and_probabilities():
    coding, _ = code(["no", "yes"], "binary")
    decoded = coding.decode(torch.tensor([[0.25], [0.75]]), ["ignored"])
    assert decoded.to_dict(as_series=False) == {
        "y": ["no", "yes"],
        "probability_no": [0.75, 0.25],
        "probability_yes": [0.25, 0.75],
    }


def test_margin_predictions_get_labels_by_sign():
    coding, _ = code([False, True], "margin")
    decoded = coding.decode(torch.tensor([[-2.0], [0.5]]), ["ignored"])
    assert decoded.to_dict(as_series=False) == {"y": [False, True], "score": [-2.0, 0.5]}


def test_multiclass_predictions_get_the_likeliest_label():
    coding, _ = code([3, 1, 2], "multiclass")
    decoded = coding.decode(torch.tensor([[0.5, 0.25, 0.25], [0.0, 0.25, 0.75]]), ["ignored"])
    assert decoded["y"].to_list() == [1, 3]
    assert decoded.columns == ["y", "probability_1", "probability_2", "probability_3"]


nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([1.0, None, 2.0], "regression", r"missing values in y \(1, first in row 2\)"),
        ([1.0, nan, nan], "regression", r"missing values in y \(2, first in row 2\)"),
        ([1.0, 2.0, -inf], "regression", "column 'y' has 1 infinite value, first in row 3"),
        (["a", None, "b"], "multiclass", r"missing values in y \(1"),
        ([3.0, 3.0, 3.0], "regression", "target 'y' is 3 in every row"),
        ([0.3, 0.3, 0.3], "binary", "target 'y' is 0.3 in every row"),
        ([2, 2, 2], "count", "target 'y' is 2 in every row"),
        (["a", "a", "a"], "multiclass", r"one class \(a\)"),
        ([1, 1, 1], "binary", r"one class \(1\)"),
        (["a", "b", "c"], "regression", r"some_loss needs numbers, .*labels \(a, b, c\).*cross_entropy"),
        (["a", "b", "b"], "count", r"some_loss needs numbers, .*such as bce"),
        ([True, False, True], "regression", "some_loss needs numbers"),
        ([0.5, 1.5, 2.5], "multiclass", "some_loss needs class labels, .*real values from 0.5 to 2.5.*such as mse"),
        ([0.5, 1.5, 2.5], "binary", "class labels or probabilities"),
        ([0.5, 0.75, 0.25], "margin", "some_loss needs class labels"),
        ([[1], [2], [3]], "regression", "column 'y' has type List"),
        (pl.Series([1, 2, 3]).cast(pl.Date), "multiclass", "column 'y' has type Date"),
    ],
)
def test_targets_that_do_not_fit_are_refused(values, kind, message):
    with pytest.raises(DataError, match=message) as caught:
        code(values, kind)
    assert str(caught.value).startswith("t.csv: ")
    assert "\n" not in str(caught.value)


def test_one_class_in_the_training_split_alone_is_refused():
    with pytest.raises(DataError, match=r"one class .* in the training split"):
        code(["a", "a", "b"], "binary", train=[0, 1])


def test_a_label_that_training_lacks_is_refused():
    with pytest.raises(DataError, match=r"label 'c' in row 3, .*a, b"):
        code(["a", "b", "c"], "multiclass", train=[0, 1])


def test_probabilities_that_do_not_add_up_are_refused():
    frame = pl.DataFrame({"a": [0.5, 0.5], "b": [0.5, 0.4]})
    with pytest.raises(DataError, match=r"row 2 has 0.5, 0.4"):
        code(frame, "multiclass", ("a", "b"))
    with pytest.raises(DataError, match="takes one target column, not 2: a, b"):
        code(frame, "binary", ("a", "b"))


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("n", [10, 40, 400])
@pytest.mark.parametrize("distinct", [2, 20, 25, 60])
def test_blocks_are_read_as_the_whole(n, distinct, bounded):
    frame = pl.DataFrame({"y": np.arange(n) % distinct * 1.0})
    goal = TargetFit(frame, ["y"], "multiclass", "", bounded=bounded)
    for start in range(0, n, 7):
        goal.check(frame[start : start + 7], "here")
    if min(n, distinct) <= 20 or n >= 5 * distinct:
        assert goal.reading("here").labels
    else:
        with pytest.raises(DataError, match="here: the loss needs class labels"):
            goal.reading("here")


def test_numbers_in_blocks_have_the_moments_of_the_whole():
    frame = pl.DataFrame(np.random.default_rng(0).normal(5, 2, (100, 2)), schema=["a", "b"])
    goal = TargetFit(frame, ["a", "b"], "regression", "mse", bounded=True)
    for start in range(0, 100, 7):
        goal.check(frame[start : start + 7], "here")
        goal.update(frame[start : start + 7])
    coding = goal.coding(goal.reading("here"), "here", standardize=True, center=True)
    np.testing.assert_allclose(coding.center, frame.to_numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(coding.scale, frame.to_numpy().std(0), rtol=1e-14)
