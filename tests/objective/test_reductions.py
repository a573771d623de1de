from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_ranks import on_ranks

from torchplug.objective.reductions import Ranks, cut, tree_sum


@given(samples=st.integers(1, 100_000), unit=st.sampled_from([1, 7, 1024]))
def test_runs_cover_every_row_once_at_multiples_of_the_unit(samples, unit):
    runs = cut(samples, unit)
    assert runs[0][0] == 0
    assert runs[-1][1] == samples
    assert all(a[1] == b[0] for a, b in pairwise(runs))
    assert all(start % unit == 0 and stop > start for start, stop in runs)
    assert len(runs) <= 64


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(1, 500), world=st.integers(2, 5), seed=st.integers(0, 9))
def test_every_number_of_ranks_gives_the_same_bits(samples, world, seed):
    values = torch.randn(samples, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    runs = cut(samples, 4)

    def total(ranks):
        return tree_sum(runs, lambda start, stop: values[start:stop].sum(0), torch.zeros(3, dtype=torch.float64), ranks)

    alone = total(Ranks())
    torch.testing.assert_close(alone, values.sum(0), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(result, alone) for result in on_ranks(world, total))


@pytest.mark.parametrize("world", [2, 3, 7])
def test_each_run_is_computed_by_one_rank(world):
    runs = cut(100, 10)

    def computed(ranks):
        mine = []
        leaf = lambda start, stop: mine.append((start, stop)) or torch.ones(1)  # noqa: E731
        assert float(tree_sum(runs, leaf, torch.zeros(1), ranks)) == 10
        return mine

    assert sorted(run for mine in on_ranks(world, computed) for run in mine) == runs


def test_alone_where_there_is_no_process_group():
    assert Ranks.current() == Ranks(0, 1)
    tensor = torch.ones(2)
    assert Ranks().broadcast(tensor) is tensor
