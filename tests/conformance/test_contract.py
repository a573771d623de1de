"""Every component of the project keeps the contract: registering one buys its tests."""

from torchplug.registry import registry
from torchplug.registry.component import Family
from torchplug.testing import parametrize_with_checks


@parametrize_with_checks("torchplug", "torchplug-robust", "torchplug-second-order", "torchplug-tabular")
def test_contract(component, check):
    check(component)


def test_every_family_has_components():
    assert all(registry().entries(family) for family in Family)
