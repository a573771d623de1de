"""The named optimizers: their parameters, and each trained through the core as a recipe would."""

import inspect
import subprocess
import sys

import lightning
import numpy as np
import polars
import pytest
import torch
from torch import nn

import torchplug_second_order
from torchplug import Capability, ComponentModule, TabularData, TorchplugError, use
from torchplug_second_order import optimizers
from torchplug_second_order.solver import Solver

ITERATIVE = ["line_search", "newton", "bfgs", "lbfgs", "gauss_newton", "levenberg", "levenberg_marquardt"]
RESIDUAL_METHODS = ["gauss_newton", "levenberg", "levenberg_marquardt"]


def parameter(size=3):
    return nn.Parameter(torch.zeros(size, dtype=torch.float64))


@pytest.mark.parametrize("name", ITERATIVE)
class TestEach:
    def test_it_is_a_solver_with_defaults_alone(self, name):
        optimizer = getattr(optimizers, name)([parameter()])
        assert isinstance(optimizer, Solver)
        assert isinstance(optimizer, torch.optim.Optimizer)
        # a scheduler has nothing to change
        assert optimizer.defaults == {}
        assert optimizer.outcome is None

    def test_its_documentation_names_every_parameter(self, name):
        function = getattr(optimizers, name)
        documentation = inspect.getdoc(function)
        for argument in inspect.signature(function).parameters:
            assert f"    {argument}: " in documentation
        assert "Reference:" in documentation
        assert "Raises:" in documentation

    def test_tolerances_are_checked(self, name):
        with pytest.raises(ValueError, match="gradient_tolerance must be at least 0"):
            getattr(optimizers, name)([parameter()], gradient_tolerance=-1.0)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("line_search", {"search": "fixed"}, "search must be one of armijo, strong_wolfe, got 'fixed'"),
        ("newton", {"search": "wolfe"}, "search must be one of"),
        ("newton", {"linear_solver": "lu"}, "linear_solver must be one of auto, cholesky, cg"),
        ("newton", {"lr": 0.5}, "lr is the step of search fixed, and search is armijo: leave lr out"),
        ("newton", {"search": "fixed", "lr": -1.0}, "lr must be positive and finite"),
        ("gauss_newton", {"linear_solver": "cg"}, "linear_solver must be one of qr, cholesky"),
        ("lbfgs", {"history_size": 0}, "history_size must be at least 1"),
        ("levenberg", {"damping": 0.0}, "damping must be positive"),
        ("bfgs", {"memory_limit": 0.0}, "memory_limit must be positive"),
    ],
)
def test_ranges(name, parameters, message):
    with pytest.raises(ValueError, match=message):
        getattr(optimizers, name)([parameter()], **parameters)


def test_only_fixed_steps_have_a_learning_rate():
    assert optimizers.newton([parameter()], search="fixed").defaults == {"lr": 1.0}


def test_sizes_are_refused_with_the_alternative():
    many = nn.Parameter(torch.empty(20_000, device="meta"))
    with pytest.raises(ValueError, match=r"20,000 parameters would need .* GiB.*lbfgs"):
        optimizers.bfgs([many])
    with pytest.raises(ValueError, match=r"20,000 parameters would need .* GiB.*cg"):
        optimizers.newton([many], linear_solver="cholesky")
    optimizers.newton([many])
    optimizers.lbfgs([many])


# ------------------------------------------------------------------ through the core


def test_the_plugin_lists_what_it_needs():
    capabilities = {
        component.name: component.capabilities for component in torchplug_second_order.torchplug_optimizers()
    }
    assert set(ITERATIVE) < set(capabilities)
    assert all(Capability.OBJECTIVE in need for need in capabilities.values())
    assert {name for name, need in capabilities.items() if Capability.RESIDUALS in need} == {
        *RESIDUAL_METHODS,
        "closed_form",
    }
    assert {name for name, need in capabilities.items() if Capability.LINEAR_RESIDUALS in need} == {"closed_form"}
    assert {name for name, need in capabilities.items() if Capability.PROX in need} == {"proximal_newton"}


class Polynomial(nn.Module):
    """Linear in its parameters, two of which say the same."""

    def __init__(self):
        super().__init__()
        self.slope, self.again = (nn.Parameter(torch.zeros(1)) for _ in range(2))

    def forward(self, features):
        return (features.sum(1, keepdim=True) - 4.0) * (self.slope + self.again)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "named"), [("linear", r"(a|twice) can"), (Polynomial(), r"(slope|again)\[0\] can")], ids=["map", "own"]
)
@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")
def test_dependent_columns_are_named_as_the_table_or_the_network_names_them(table, model, named, stream, tmp_path):
    table.select("a", (2 * table["a"]).alias("twice"), "y").write_parquet(tmp_path / "table.parquet")
    module = ComponentModule(model, "mse", "closed_form")
    data = TabularData(tmp_path / "table.parquet", target="y", split=[1, 0, 0], stream=stream)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=2, enable_model_summary=False, **quiet)
    with pytest.warns(UserWarning, match=f"closed_form: {named} be had linearly"):
        trainer.fit(module, data)


def test_listing_its_components_imports_no_torch():
    code = "import sys, torchplug_second_order as p; p.torchplug_optimizers(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    y = X @ [1.0, -0.5, 2.0] + 4.0 + 0.3 * rng.normal(size=120)
    label = np.where(X @ [1.0, -0.5, 0.2] + 0.8 * rng.normal(size=120) > 0, "up", "down")
    return polars.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": y, "label": label})


def fitted(table, target, model, loss, optimizer, **settings):
    module = ComponentModule(model, loss, optimizer, regularizers=[use("l2", coefficient=1e-3)])
    data = TabularData(table.select("a", "b", "c", target), target=target)
    trainer = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **{"max_epochs": 300, **settings},
    )
    lightning.seed_everything(0, verbose=False)
    trainer.fit(module, data)
    return module, trainer


@pytest.mark.filterwarnings("ignore:The number of training batches:UserWarning")
class TestThroughTheCore:
    @pytest.mark.parametrize("name", ITERATIVE)
    def test_linear_regression(self, table, name):
        module, trainer = fitted(table, "y", "linear", "mse", name)
        assert module.outcome.name == "converged", module.outcome
        assert trainer.current_epoch < 300
        reference, _ = fitted(table, "y", "linear", "mse", "newton")
        ours = torch.cat([p.detach().reshape(-1) for p in module.network.parameters()])
        best = torch.cat([p.detach().reshape(-1) for p in reference.network.parameters()])
        torch.testing.assert_close(ours, best, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("name", [n for n in ITERATIVE if n not in RESIDUAL_METHODS])
    def test_logistic_regression(self, table, name):
        module, _ = fitted(table, "label", "linear", "bce", name)
        assert module.outcome.name == "converged", module.outcome
        assert module.iteration.gradient_norm < 1e-7

    @pytest.mark.parametrize("name", ["newton", "lbfgs", "levenberg", "levenberg_marquardt"])
    def test_a_network(self, table, name):
        module, trainer = fitted(table, "y", use("mlp", hidden=[4], activation="tanh"), "mse", name, max_epochs=40)
        assert module.iteration.number == trainer.current_epoch or module.outcome is not None
        assert module.iteration.loss < 0.05

    @pytest.mark.parametrize("name", RESIDUAL_METHODS)
    def test_residual_methods_refuse_other_losses(self, name):
        with pytest.raises(TorchplugError, match=f"{name} needs a loss that is a sum of squared residuals"):
            ComponentModule("linear", "bce", name)
