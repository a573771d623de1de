"""Global state that is changed within `preserved`: put back, and named."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from torchplug.registry.global_state import preserved

CHANGES = {
    "the working directory": lambda: os.chdir("/"),
    "environment variables (ACME)": lambda: os.environ.update(ACME="1"),
    "environment variables (HOME)": lambda: os.environ.pop("HOME"),
    "sys.path": lambda: sys.path.insert(0, "/acme"),
    "warning filters": lambda: warnings.simplefilter("ignore"),
    "signal handlers": lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
    "Python's random generator": lambda: random.seed(1),
    "NumPy's random generator": lambda: np.random.seed(1),
    "torch's random generator": lambda: torch.manual_seed(1),
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's gradient mode": lambda: torch.set_grad_enabled(False),
    "torch's precision of matrix products": lambda: torch.set_float32_matmul_precision("high"),
    "torch's deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "torch's thread count": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
}


def state():
    return (
        os.getcwd(),
        dict(os.environ),
        list(sys.path),
        list(warnings.filters),
        signal.getsignal(signal.SIGUSR1),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
    )


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named_and_undone(name, monkeypatch):
    monkeypatch.setenv("HOME", "/home")
    before = state()
    with preserved() as changed:
        CHANGES[name]()
    assert changed == [name]
    assert state() == before


def test_nothing_changed_is_nothing_named():
    with preserved() as changed:
        pass
    assert changed == []


def test_it_is_undone_after_an_exception_too():
    def fail():
        torch.set_default_dtype(torch.float64)
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"), preserved() as changed:
        fail()
    assert changed == ["torch's default dtype"]
    assert torch.get_default_dtype() == torch.float32


def test_a_filter_for_a_librarys_own_warnings_stays():
    before = list(warnings.filters)
    try:
        with preserved() as changed:
            warnings.filterwarnings("ignore", message="acme's own")
        assert changed == []
        assert any("acme's own" in str(kept[1]) for kept in warnings.filters)
    finally:
        warnings.filters[:] = before


def test_broad_filters_that_were_removed_return():
    before = list(warnings.filters)
    with preserved() as changed:
        warnings.resetwarnings()
    assert changed == ["warning filters"]
    assert warnings.filters == before


def test_torch_is_not_imported_and_its_first_import_hides_nothing():
    code = """
import sys
from torchplug.registry.global_state import preserved
with preserved() as nothing:
    pass
assert nothing == [] and "torch" not in sys.modules
with preserved() as imported:
    import torch
assert imported == [], imported
del sys.modules["torch"]  # as if it were imported for the first time
with preserved() as changed:
    sys.modules["torch"] = torch
    torch.manual_seed(3)
    torch.set_default_dtype(torch.float64)
assert changed == ["torch's random generator", "torch's default dtype"], changed
assert torch.get_default_dtype() == torch.float32 and torch.initial_seed() >= 2**32
"""
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")
