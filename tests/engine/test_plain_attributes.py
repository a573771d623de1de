"""What code reads of modules that is no tensor."""

import torch
from torch import nn

from torchplug.engine.plain_attributes import PlainAttributes


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = 2.0
        self.calls = 0

    def forward(self, features):
        self.calls += 1
        self.last = len(features)
        return features * self.factor


def looked(attributes):
    attributes.refresh()
    return attributes.version


def test_a_change_is_seen_also_of_modules_within_and_also_back():
    network = nn.Sequential(nn.Linear(2, 2), Scaled())
    attributes = PlainAttributes([network])
    first = attributes.version
    assert looked(attributes) == first
    network[1].factor = 3.0
    second = looked(attributes)
    assert second != first
    network[1].factor = 2.0
    assert looked(attributes) == first
    network[0].eval()
    assert looked(attributes) not in (first, second)


def test_what_a_forward_pass_changes_by_itself_is_left_out():
    network = Scaled()
    attributes = PlainAttributes([network])
    result = attributes.ignore_changed_by(lambda: network(torch.ones(3)))
    assert torch.equal(result, torch.full((3,), 2.0))
    before = attributes.version
    network(torch.ones(5))
    assert looked(attributes) == before
    network.factor = 4.0
    assert looked(attributes) != before
