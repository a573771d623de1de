import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchplug.batch import Rows
from torchplug.objective.sample import Sample


class Numbered:
    def __init__(self, samples):
        self.samples = samples

    def read(self, start, stop):
        assert 0 <= start < stop <= self.samples
        rows = torch.arange(start, stop)
        return Rows({"x": rows}, rows, rows)


@given(samples=st.integers(1, 5000), part=st.integers(1, 6000), cut=st.integers(1, 700))
def test_a_sample_holds_different_rows_in_order(samples, part, cut):
    sample = Sample(Numbered(samples), part)
    assert sample.samples == min(samples, part)
    pieces = [sample.read(i, min(i + cut, sample.samples)) for i in range(0, sample.samples, cut)]
    rows = torch.cat([piece.target for piece in pieces])
    assert torch.equal(rows, torch.cat([piece.features["x"] for piece in pieces]))
    assert len(rows) == sample.samples
    if sample.samples == samples:
        assert torch.equal(rows, torch.arange(samples))
    assert bool((rows.diff() >= 0).all())


@pytest.mark.parametrize("part", [512, 2560])
def test_a_sample_reaches_from_the_first_rows_to_the_last(part):
    rows = Sample(Numbered(100_000), part).read(0, part).target
    assert int(rows[0]) == 0
    assert int(rows[-1]) == 99_999
    assert len(set(rows.tolist())) == part
    assert int(rows.diff().max()) <= 100_000 // (part // 256 - 1)
