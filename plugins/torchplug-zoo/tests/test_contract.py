"""The project's checks on some of each library; `table.py` runs them on all, and writes docs/zoo.md."""

from __future__ import annotations

from expected_failures import expected_checks
from settings import PARAMETERS

from torchplug.registry import registry
from torchplug.testing import parametrize_with_checks

SAMPLE = (
    "loss:torch_cross_entropy_loss",
    "loss:torch_huber_loss",
    "optimizer:po_adahessian",
    "optimizer:po_lion",
    "optimizer:po_muon",
    "optimizer:po_ranger21",
    "optimizer:schedulefree_adamw",
    "optimizer:torch_adamw",
    "scheduler:po_wsd",
    "scheduler:torch_one_cycle_lr",
)
INSTALLED = {f"{entry.family.value}:{entry.name}" for entry in registry().entries()}
CHOSEN = [key for key in SAMPLE if key in INSTALLED]


@parametrize_with_checks(
    *(key.partition(":")[2] for key in CHOSEN),
    parameters={key: PARAMETERS[key] for key in CHOSEN if key in PARAMETERS},
    expected_failed_checks={key: checks for key, checks in expected_checks().items() if key in CHOSEN},
    quick=True,
)
def test_contract(component, check):
    check(component)
