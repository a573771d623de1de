"""Running without autograd's graph."""

import torch

from torchplug.no_grad import no_grad_if_enabled, unwrapped


class Doubler:
    """Doubles a tensor, and notes whether a graph was recorded."""

    @no_grad_if_enabled
    def double(self, tensor):
        self.recording = torch.is_grad_enabled()
        return 2 * tensor

    def plain(self, tensor):
        return 2 * tensor

    @torch.enable_grad()
    def recorded(self, tensor):
        return 2 * tensor


def test_nothing_is_recorded_and_gradients_are_on_again():
    doubler, tensor = Doubler(), torch.ones(2, requires_grad=True)
    assert not doubler.double(tensor).requires_grad
    assert not doubler.recording
    assert torch.is_grad_enabled()


def test_the_bare_method_records_where_somebody_does():
    doubler, tensor = Doubler(), torch.ones(2, requires_grad=True)
    assert unwrapped(doubler.double)(tensor).requires_grad
    with torch.no_grad():
        assert torch.equal(unwrapped(doubler.double)(tensor), torch.full((2,), 2.0))
    assert doubler.recording is False


def test_any_other_method_stays_as_it_is():
    doubler = Doubler()
    for method in (doubler.plain, doubler.recorded):
        assert unwrapped(method) == method
