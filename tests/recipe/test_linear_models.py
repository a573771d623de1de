"""A third party's linear model, declared by `linear_scores`, is treated like the built-in one."""

from pathlib import Path

import polars
import pytest
import torch

import third_party
from torchplug import ComponentModule
from torchplug.chain import Chain
from torchplug.errors import ConfigurationError, PluginError


@pytest.fixture(autouse=True)
def _acme(distributions):
    third_party.install(distributions)


def coefficients(run, *flags):
    """The table that a fit writes."""
    before = set(Path("runs").glob("*/*"))
    status, _, errors = run(["fit", *flags])
    assert (status, errors) == (0, "")
    (folder,) = set(Path("runs").glob("*/*")) - before
    return polars.read_csv(folder / "coefficients.csv")


@pytest.mark.parametrize("shift", ["true", "false"])
def test_full_batch_fits_have_its_coefficients_and_standard_errors(run, shift):
    solved = ["--model.optimizer", "closed_form"]
    own = coefficients(run, "--model.model", "affine", "--model.model.shift", shift, *solved)
    ours = coefficients(run, "--model.model.bias", shift, *solved)
    assert "standard_error" in own.columns
    assert ("(intercept)" in own["feature"]) is (shift == "true")
    assert own.columns == ours.columns
    for column in own.columns:
        if own[column].dtype == polars.String:
            assert own[column].equals(ours[column])
        else:
            assert (own[column] - ours[column]).abs().max() <= 1e-9 * ours[column].abs().max()


def test_gradients_by_hand_lead_to_the_same_coefficients(run):
    flags = ["--model.engine", "analytic", "--trainer.max_epochs", "3", "--data.batch_size", "32"]
    own, ours = (coefficients(run, "--model.model", model, *flags) for model in ("affine", "linear"))
    assert (own["coefficient"] - ours["coefficient"]).abs().max() < 1e-3 * ours["coefficient"].abs().max()


def test_its_chain_is_one_linear_map():
    network = ComponentModule("affine").resolved.build_network(3, 2)
    chain = Chain.of(network)
    assert chain.is_linear
    assert chain.trainable() == [network.slopes, network.shift]
    network.register_forward_hook(lambda *_: None)
    assert Chain.of(network) is None


def test_a_subclass_with_another_forward_is_not_linear():
    module = ComponentModule("squared")
    assert module.resolved.linear is None
    assert Chain.of(module.resolved.build_network(3, 1)) is None
    module.network = module.resolved.build_network(3, 1)
    with pytest.raises(ConfigurationError, match="only a fitted linear model"):
        module.coefficients()


def test_coefficients_that_are_not_those_of_the_scores_are_the_plugins_fault():
    with pytest.raises(PluginError, match=r"model acme:misdeclared: linear_scores\(\) gives other coefficients"):
        ComponentModule("misdeclared")


def test_one_that_declares_nothing_is_not_linear():
    assert ComponentModule("mlp").resolved.linear is None
    assert isinstance(ComponentModule("linear").resolved.linear.weight, torch.nn.Parameter)
