"""Every loss of the distribution trained through the core, as a recipe would."""

import lightning
import numpy as np
import polars
import pytest

from torchplug import ComponentModule, TabularData, use


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    y = x @ [1.0, -0.5]
    return polars.DataFrame(
        {
            "a": x[:, 0],
            "b": x[:, 1],
            "value": 10 + 3 * y + 0.1 * rng.normal(size=200),
            "count": rng.poisson(np.exp(y)),
            "label": np.where(y + 0.1 * rng.normal(size=200) > 0, "up", "down"),
        }
    )


def fitted(table, target, loss):
    module = ComponentModule("linear", loss, use("adam", lr=0.05))
    data = TabularData(
        table.select("a", "b", target),
        target=target,
        batch_size=40,
        standardize_target=True if target == "value" else "auto",
    )
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=120,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data)
    return module, data, trainer.callback_metrics


@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")  # rows are logged once in 50 steps
class TestEndToEnd:
    @pytest.mark.parametrize("loss", ["huber", "log_cosh", "tukey"])
    def test_regression(self, table, loss):
        module, data, metrics = fitted(table, "value", loss)
        assert metrics["val/r2"] > 0.98
        assert module.predict(data.frame_of("test")).columns == ["value"]

    def test_quantiles_cover_their_share(self, table):
        module, data, metrics = fitted(table, "value", use("quantile", quantiles=[0.1, 0.5, 0.9]))
        rows = data.frame_of("train")
        predicted = module.predict(rows)
        assert predicted.columns == ["value_q0.1", "value_q0.5", "value_q0.9"]
        for column, share in zip(predicted.columns, (0.1, 0.5, 0.9), strict=True):
            assert np.mean(rows["value"].to_numpy() < predicted[column].to_numpy()) == pytest.approx(share, abs=0.1)
        validation = data.frame_of("validation")
        median = module.predict(validation)["value_q0.5"].to_numpy()
        assert metrics["val/mae"].item() == pytest.approx(
            np.abs(median - validation["value"].to_numpy()).mean(), rel=1e-4
        )

    def test_counts(self, table):
        module, data, metrics = fitted(table, "count", "poisson_nll")
        rates = module.predict(data.frame_of("test"))["count"].to_numpy()
        assert (rates > 0).all()
        assert metrics["val/r2"] > 0.2
        weights = module.network.map.weight.detach().numpy()[0] / data.preprocessing.scaling.scale.numpy()
        np.testing.assert_allclose(weights, [1.0, -0.5], atol=0.2)

    @pytest.mark.parametrize("loss", ["hinge", "focal"])
    def test_two_classes(self, table, loss):
        module, data, metrics = fitted(table, "label", loss)
        assert metrics["val/accuracy"] > 0.9
        assert metrics["val/auroc"] > 0.97
        rows = data.frame_of("test")
        assert np.mean(module.predict(rows)["label"].to_numpy() == rows["label"].to_numpy()) > 0.9
