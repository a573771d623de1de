"""The built-in plugin: complete, and listed without importing torch."""

import subprocess
import sys

import torchplug.components.builtin as builtin


def names(hook):
    return {component.name for component in hook()}


def test_the_components_of_the_notes_are_there():
    assert names(builtin.torchplug_models) == {"linear", "mlp"}
    assert names(builtin.torchplug_losses) == {"l1", "mse", "bce", "cross_entropy"}
    assert names(builtin.torchplug_optimizers) == {"sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"}
    assert names(builtin.torchplug_regularizers) == {"l1", "l2", "elastic_net"}
    assert names(builtin.torchplug_schedulers) == {
        "constant", "inverse_time", "step", "exponential", "inverse_sqrt", "manual",
        "cosine", "one_cycle", "plateau", "warmup",
    }  # fmt: skip
    assert names(builtin.torchplug_metrics) == {
        "rmse", "mae", "r2", "accuracy", "macro_f1", "auroc", "average_precision", "brier", "log_loss",
        "calibration_error",
    }  # fmt: skip


def test_listing_them_imports_no_torch():
    code = "import sys, torchplug.components.builtin as b; b.torchplug_losses(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
