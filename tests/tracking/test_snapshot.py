from collections import deque

import pytest
import torch

from torchplug.tracking.snapshot import snapshot


def content(value=1.0):
    return {
        "weights": {"a": torch.full((3, 2), value), "whole": torch.tensor(int(value))},
        "groups": [{"lr": 0.1, "betas": (0.9, torch.tensor(value))}],
        "names": ("x", None, True),
    }


def values(nested):
    """A nest of tensors as plain values, with its types."""
    if isinstance(nested, torch.Tensor):
        return nested.dtype, nested.tolist()
    if isinstance(nested, dict):
        return {key: values(value) for key, value in nested.items()}
    return type(nested)(map(values, nested)) if isinstance(nested, list | tuple) else nested


def test_later_changes_are_not_in_it():
    given = content()
    copy = snapshot(given)
    given["weights"]["a"] += 1
    given["groups"][0]["betas"][1].zero_()
    given["groups"][0]["lr"] = 7
    given["groups"].append({})
    assert values(copy) == values(content())


def test_an_earlier_snapshot_is_overwritten():
    first = snapshot(content(1.0))
    place = first["weights"]["a"].data_ptr()
    second = snapshot(content(2.0), first)
    assert values(second) == values(content(2.0))
    assert second["weights"]["a"].data_ptr() == place


@pytest.mark.parametrize(
    "memory",
    [
        {"weights": {"a": torch.zeros(2, 2)}},
        {"weights": {"a": torch.zeros(3, 2, dtype=torch.float64)}},
        {"weights": {"a": torch.zeros(2, 3).T}},
        {"weights": torch.zeros(3, 2)},
        {"groups": [], "names": 3},
        [torch.zeros(3, 2)],
    ],
    ids=["shape", "type", "order in memory", "tensor for mapping", "other lists", "list for mapping"],
)
def test_memory_of_another_form_is_left_alone(memory):
    before = values(memory)
    copy = snapshot(content(), memory)
    assert values(copy) == values(content())
    assert copy["weights"]["a"].is_contiguous()
    assert values(memory) == before or "weights" not in memory


def test_a_part_of_a_larger_tensor_gets_memory_of_its_own():
    row = snapshot(torch.arange(1000.0).view(10, 100)[3])
    assert row.untyped_storage().nbytes() == 400
    assert row.tolist() == list(range(300, 400))


def test_objects_of_other_types_are_copied():
    given = {"recent": deque([torch.ones(2)])}
    copy = snapshot(given)
    given["recent"].clear()
    assert copy["recent"][0].tolist() == [1.0, 1.0]
