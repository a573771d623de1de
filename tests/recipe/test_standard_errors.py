"""coefficients.csv of full-batch fits: standard errors in the table's own units, as statsmodels has them."""

import numpy as np
import polars
import pytest
import torch
from statsmodels.api import Logit, MNLogit, Poisson, add_constant

from small_fits import trainer
from torchplug import ComponentModule, TabularData

INFERENCE = ["standard_error", "z", "p", "lower_95", "upper_95"]
PLAIN = ["--model.regularizers", "[]", "--data.split", "[1.0]", "--model.optimizer", "newton"]


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(300, 3)) * [1.0, 100.0, 0.01] + [0.0, 500.0, 1.0]
    z = (X - [0.0, 500.0, 1.0]) @ [0.8, -0.005, 30.0]
    frame = polars.DataFrame(
        {
            **dict(zip("abc", X.T, strict=True)),
            "two": np.where(z + rng.logistic(size=300) > 0, "yes", "no"),
            "three": np.digitize(z + rng.logistic(size=300), [-1.0, 1.0]),
            "count": rng.poisson(np.exp(0.5 * z)),
        }
    )
    frame.write_csv(tmp_path / "t.csv")
    return frame


def coefficients(run, tmp_path, target, *flags):
    features = '["a","b","c"]'
    line = ["fit", "--data.source", "t.csv", "--data.target", target, "--data.features", features, *PLAIN, *flags]
    status, printed, errors = run(line, "logistic_regression")
    assert (status, errors) == (0, ""), errors
    assert "converged" in printed
    (directory,) = (tmp_path / "runs" / "logistic_regression").iterdir()
    return polars.read_csv(directory / "coefficients.csv")


def assert_as(rows, params, peer_columns):
    np.testing.assert_allclose(rows["coefficient"], params, rtol=1e-6)
    for name, expected in zip(INFERENCE, peer_columns, strict=True):
        np.testing.assert_allclose(rows[name], expected, rtol=1e-5, atol=1e-12, err_msg=name)


def peer(model, y, table):
    X = add_constant(table["a", "b", "c"].to_numpy())
    return model(y, X).fit(method="newton", maxiter=30, disp=0, warn_convergence=False)


def test_logistic(run, table, tmp_path):
    found = coefficients(run, tmp_path, "two")
    assert found.columns == ["output", "feature", "coefficient", *INFERENCE]
    expected = peer(Logit, (table["two"] == "yes").to_numpy().astype(float), table)
    lower, upper = expected.conf_int().T
    assert_as(found, expected.params, (expected.bse, expected.tvalues, expected.pvalues, lower, upper))


def test_poisson(run, table, tmp_path):
    found = coefficients(run, tmp_path, "count", "--model.loss", "poisson_nll")
    expected = peer(Poisson, table["count"].to_numpy().astype(float), table)
    lower, upper = expected.conf_int().T
    assert_as(found, expected.params, (expected.bse, expected.tvalues, expected.pvalues, lower, upper))


def test_multinomial_is_relative_to_the_first_class(run, table, tmp_path):
    found = coefficients(run, tmp_path, "three", "--model.loss", "cross_entropy")
    expected = peer(MNLogit, table["three"].to_numpy(), table)
    reference = found.filter(polars.col("output") == 0)
    assert reference["coefficient"].to_list() == [0.0] * 4
    assert reference["standard_error"].null_count() == 4
    for j in (1, 2):
        rows = found.filter(polars.col("output") == j)
        lower, upper = expected.conf_int()[j - 1].T
        columns = (expected.bse[:, j - 1], expected.tvalues[:, j - 1], expected.pvalues[:, j - 1], lower, upper)
        assert_as(rows, expected.params[:, j - 1], columns)


@pytest.mark.parametrize(
    "flags",
    [
        ["--model.regularizers", "[{class_path: l2, init_args: {coefficient: 0.01}}]"],
        ["--trainer.max_epochs", "2"],
        ["--model.optimizer", "nesterov", "--model.optimizer.lr", "0.5"],
    ],
    ids=["penalized", "unfinished", "by minibatches"],
)
def test_there_are_none_where_they_would_mean_nothing(run, table, tmp_path, flags):
    line = ["fit", "--data.source", "t.csv", "--data.target", "two", "--data.features", '["a","b","c"]', *PLAIN, *flags]
    assert run(line, "logistic_regression")[0] == 0
    (directory,) = (tmp_path / "runs" / "logistic_regression").iterdir()
    assert polars.read_csv(directory / "coefficients.csv").columns == ["output", "feature", "coefficient"]


class Saturation(torch.nn.Module):
    """b (1 − e^(−c x)), its last parameter a vector of two."""

    def __init__(self):
        super().__init__()
        self.b = torch.nn.Parameter(torch.tensor(300.0))
        self.rest = torch.nn.Parameter(torch.tensor([0.004, 0.0]))

    def forward(self, features):
        return self.b * (1 - torch.exp(-self.rest[0] * features)) + self.rest[1]


@pytest.mark.parametrize("optimizer", ["levenberg_marquardt", "gauss_newton", "newton"])
def test_a_curve_of_ones_own_has_a_row_for_each_parameter(tmp_path, optimizer):
    x = np.linspace(70, 760, 30)
    y = 240 * (1 - np.exp(-0.0055 * x)) + 0.1 * np.sin(x)
    module = ComponentModule(Saturation(), "mse", optimizer)
    data = TabularData((x, y), split=[1, 0, 0], scale="none", standardize_target=False)
    trainer(tmp_path, max_epochs=300).fit(module, data)
    assert module.outcome.name == "converged", module.outcome
    found = module.coefficient_table()
    assert found["parameter"].to_list() == ["b", "rest[0]", "rest[1]"]
    b, c, d = found["coefficient"]
    J = np.column_stack([1 - np.exp(-c * x), b * x * np.exp(-c * x), np.ones(30)])
    residuals = y - b * (1 - np.exp(-c * x)) - d
    expected = np.sqrt(np.diag(np.linalg.inv(J.T @ J)) * (residuals @ residuals) / 27)
    np.testing.assert_allclose(found["standard_error"], expected, rtol=1e-6)
    np.testing.assert_allclose(found["t"], found["coefficient"] / expected, rtol=1e-6)
