"""The chain rule by hand against autograd, and what must not be taken for a chain."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune

from torchplug.chain import Chain
from torchplug.components.models import MLP, Linear

ACTIVATIONS = {
    "none": None,
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "steep softplus": lambda: nn.Softplus(beta=3.0, threshold=1.5),
    "dropout": lambda: nn.Dropout(0.5),
}


def network_of(widths, activations, biases, *, dtype=torch.float64):
    """A Sequential with random parameters; activations and biases are those of each map."""
    modules = []
    for fan_in, fan_out, activation, bias in zip(widths, widths[1:], activations, biases, strict=False):
        modules.append(nn.Linear(fan_in, fan_out, bias=bias, dtype=dtype))
        if ACTIVATIONS[activation] is not None:
            modules.append(ACTIVATIONS[activation]())
    return nn.Sequential(*modules).eval()


@st.composite
def networks(draw):
    depth = draw(st.integers(1, 4))
    widths = [draw(st.integers(1, 5)) for _ in range(depth)] + [draw(st.integers(1, 3))]
    activations = [draw(st.sampled_from(list(ACTIVATIONS))) for _ in range(depth)]
    network = network_of(widths, activations, [draw(st.booleans()) for _ in range(depth)])
    for parameter in network.parameters():
        parameter.requires_grad_(draw(st.sampled_from([True, True, False])))
    return network


def trainable(network):
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def reference(network, features):
    """Scores (n, k) and the Jacobian (n, k, p), by autograd."""
    named = {name: p.detach() for name, p in trainable(network).items()}
    scores = network(features).detach()
    if not named:
        return scores, features.new_zeros(*scores.shape, 0)
    jacobian = torch.func.jacrev(lambda parameters: torch.func.functional_call(network, parameters, (features,)))(named)
    return scores, torch.cat([jacobian[name].flatten(2) for name in named], dim=2)


def flat(tensors):
    return torch.cat([torch.zeros(0, dtype=torch.float64), *(t.reshape(-1) for t in tensors)])


def close(actual, expected, **tolerances):
    torch.testing.assert_close(actual, expected, **({"rtol": 1e-11, "atol": 1e-12} | tolerances))


def check(network, features):
    chain = Chain.of(network)
    expected, J = reference(network, features)
    p = J.shape[2]
    scores, tape = chain.forward(features)
    assert torch.equal(scores, expected)
    derivative, direction = torch.randn_like(scores), torch.randn(p, dtype=scores.dtype)

    gradients = chain.backward(tape, derivative)
    assert [g.shape for g in gradients] == [q.shape for q in trainable(network).values()]
    close(flat(gradients), torch.einsum("nk,nkp->p", derivative, J))
    close(chain.jacobian(tape), J)
    close(chain.jvp(tape, direction), J @ direction)

    assert not any(t.requires_grad for t in (scores, *gradients, chain.jacobian(tape), chain.jvp(tape, direction)))


@given(network=networks(), n=st.integers(0, 4), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_derivatives_are_autograds(network, n, seed):
    torch.manual_seed(seed)
    check(network, 3.0 * torch.randn(n, network[0].in_features, dtype=torch.float64))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("k", [1, 3])
def test_derivatives_of_each_activation_hidden_and_last(activation, k):
    torch.manual_seed(0)
    network = network_of([3, 5, 4, k], [activation] * 3, [True] * 3)
    check(network, 3.0 * torch.randn(50, 3, dtype=torch.float64))


def test_relu_has_no_slope_at_zero():
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU()).double()
    _, tape = (chain := Chain.of(network)).forward(torch.zeros(1, 1, dtype=torch.float64))
    _, tape_above = chain.forward(torch.full((1, 1), network[0].weight.sign().item(), dtype=torch.float64))
    one = torch.ones(1, 1, dtype=torch.float64)
    assert chain.backward(tape, one)[0].item() == 0.0
    assert abs(chain.backward(tape_above, one)[0].item()) == 1.0


def test_float32_stays_float32_and_is_close_to_float64():
    torch.manual_seed(0)
    network = network_of([4, 16, 8, 2], ["tanh", "gelu", "none"], [True] * 3, dtype=torch.float32)
    features = torch.randn(30, 4)
    scores, tape = (chain := Chain.of(network)).forward(features)
    derivative = torch.randn_like(scores)
    expected, J = reference(copy.deepcopy(network).double(), features.double())
    gradient = torch.cat([g.reshape(-1) for g in chain.backward(tape, derivative)])
    direction = torch.randn(J.shape[2])
    for actual, wanted in (
        (scores, expected),
        (gradient, torch.einsum("nk,nkp->p", derivative.double(), J)),
        (chain.jacobian(tape), J),
        (chain.jvp(tape, direction), J @ direction.double()),
    ):
        assert actual.dtype == torch.float32
        close(actual.double(), wanted, rtol=1e-4, atol=1e-4)


def test_results_are_written_where_asked():
    torch.manual_seed(0)
    network = network_of([3, 4, 2], ["silu", "none"], [True, True])
    network[2].weight.requires_grad_(False)
    features = torch.randn(6, 3, dtype=torch.float64)
    chain = Chain.of(network)
    scores, tape = chain.forward(features)
    _, J = reference(network, features)
    p = J.shape[2]

    buffer = torch.full((6, 2, p + 1), torch.nan, dtype=torch.float64)
    out = buffer[..., :p]
    assert chain.jacobian(tape, out) is out
    close(out, J)
    assert buffer[..., p].isnan().all()
    assert torch.equal(chain.jacobian(tape, out), chain.jacobian(tape))

    vector = torch.full((p,), torch.nan, dtype=torch.float64)
    derivative = torch.randn_like(scores)
    chain.backward(tape, derivative, out=chain.split(vector))
    assert torch.equal(vector, flat(chain.backward(tape, derivative)))


def test_results_do_not_depend_on_the_grad_mode():
    torch.manual_seed(0)
    chain = Chain.of(network_of([3, 4, 2], ["softplus", "tanh"], [True, True]))
    features, derivative = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)

    def results():
        scores, tape = chain.forward(features)
        return [scores, *chain.backward(tape, derivative), chain.jacobian(tape)]

    with torch.no_grad():
        without = results()
    assert all(torch.equal(a, b) for a, b in zip(results(), without, strict=True))


def test_parameters_are_read_anew():
    """They move, and layers are frozen and unfrozen on the way."""
    torch.manual_seed(0)
    network = network_of([3, 4, 4, 2], ["tanh", "relu", "none"], [True] * 3)
    chain, features = Chain.of(network), torch.randn(5, 3, dtype=torch.float64)
    for frozen in (0, 2, 4):
        with torch.no_grad():
            network[frozen].bias.copy_(torch.randn_like(network[frozen].bias))
        network[frozen].requires_grad_(False)
        scores, tape = chain.forward(features)
        expected, J = reference(network, features)
        assert torch.equal(scores, expected)
        close(chain.jacobian(tape), J)
        assert [id(p) for p in chain.trainable()] == [id(p) for p in trainable(network).values()]
    assert chain.backward(tape, torch.randn_like(scores)) == []
    assert chain.jacobian(tape).shape == (5, 2, 0)
    assert torch.equal(chain.jvp(tape, features.new_empty(0)), torch.zeros_like(scores))


def test_features_are_not_changed():
    features = torch.randn(3, 2, dtype=torch.float64)
    before = features.clone()
    chain = Chain.of(nn.Sequential(nn.Identity(), nn.Linear(2, 2), nn.ReLU(inplace=True)).double())
    _, tape = chain.forward(features)
    chain.backward(tape, torch.ones(3, 2, dtype=torch.float64))
    assert torch.equal(features, before)


@pytest.mark.parametrize(
    ("network", "dropout"),
    [
        (nn.Linear(3, 2), False),
        (Linear(3, 2), False),
        (Linear(3, 1, bias=False), False),
        (MLP(3, 2, hidden=[]), False),
        (MLP(3, 2, hidden=[5, 4], activation="gelu", bias=False), False),
        (MLP(3, 2, hidden=[5, 4], activation="identity"), False),
        (MLP(3, 2, hidden=[5, 4], dropout=0.1), True),
        (nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Tanh())), nn.Dropout(), nn.Linear(4, 2)), True),
        (nn.Sequential(MLP(3, 2), Linear(2, 1)), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_chains_are_recognized(network, dropout):
    torch.manual_seed(0)
    network = network.double().eval()
    assert Chain.of(network).dropout is dropout
    check(network, torch.randn(4, 3, dtype=torch.float64))


def test_one_activation_may_stand_in_several_places():
    torch.manual_seed(0)
    tanh = nn.Tanh()
    check(nn.Sequential(nn.Linear(2, 3), tanh, nn.Linear(3, 1), tanh).double(), torch.randn(4, 2, dtype=torch.float64))


class OwnForward(nn.Linear):
    def forward(self, features):
        return super().forward(features) ** 2


class OwnSequential(nn.Sequential):
    pass


class OwnMLP(MLP):
    pass


def plain():
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))


def tied_module():
    shared = nn.Linear(3, 3)
    return nn.Sequential(shared, nn.Tanh(), shared)


def tied_parameter():
    network = plain()
    network[2].weight = nn.Parameter(torch.randn(3, 3))
    network[2].weight = network[0].weight
    return network


def more_parameters():
    network = plain()
    network[1].register_parameter("slope", nn.Parameter(torch.ones(1)))
    return network


def other_order():
    network = plain()
    weight = network[0].weight
    del network[0].weight
    network[0].weight = weight
    return network


def replaced_forward():
    network = plain()
    network[0].forward = lambda features: features
    return network


def changed(change):
    """The plain network after a change made to it."""

    def build():
        network = plain()
        change(network)
        return network

    return build


REFUSED = {
    "batch norm": lambda: MLP(3, 1, batch_norm=True),
    "layer norm": lambda: nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)),
    "unknown activation": lambda: nn.Sequential(nn.Linear(3, 3), nn.ELU()),
    "learned activation": lambda: nn.Sequential(nn.Linear(3, 3), nn.PReLU()),
    "approximate gelu": lambda: nn.Sequential(nn.Linear(3, 3), nn.GELU(approximate="tanh")),
    "activation that couples": lambda: nn.Sequential(nn.Linear(3, 3), nn.Softmax(dim=1)),
    "two activations in a row": lambda: nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.ReLU()),
    "activation first": lambda: nn.Sequential(nn.Tanh(), nn.Linear(3, 3)),
    "other dropout": lambda: nn.Sequential(nn.Linear(3, 3), nn.AlphaDropout(0.1)),
    "convolution": lambda: nn.Sequential(nn.Conv1d(3, 3, 1)),
    "subclass of a map": lambda: nn.Sequential(OwnForward(3, 3)),
    "subclass of a sequence": lambda: OwnSequential(nn.Linear(3, 3)),
    "subclass of a model": lambda: OwnMLP(3, 1),
    "lazy": lambda: nn.Sequential(nn.LazyLinear(3)),
    "nothing": nn.Sequential,
    "no map": nn.Identity,
    "complex": lambda: nn.Linear(3, 1, dtype=torch.complex128),
    "tied module": tied_module,
    "tied parameter": tied_parameter,
    "more parameters": more_parameters,
    "other order": other_order,
    "replaced forward": replaced_forward,
    "forward hook on a map": changed(lambda network: network[0].register_forward_hook(lambda *_: None)),
    "forward hook on an activation": changed(lambda network: network[1].register_forward_hook(lambda *_: None)),
    "forward hook on the network": changed(lambda network: network.register_forward_hook(lambda *_: None)),
    "hook before forward": changed(lambda network: network[2].register_forward_pre_hook(lambda *_: None)),
    "backward hook": changed(lambda network: network[2].register_full_backward_hook(lambda *_: None)),
    "hook before backward": changed(lambda network: network[2].register_full_backward_pre_hook(lambda *_: None)),
    "hook on a gradient": changed(lambda network: network[0].weight.register_hook(lambda g: 2 * g)),
    "hook after a gradient": changed(
        lambda network: network[0].weight.register_post_accumulate_grad_hook(lambda p: None)
    ),
    "parametrization": changed(lambda network: parametrizations.weight_norm(network[0])),
    "pruning": changed(lambda network: prune.l1_unstructured(network[0], "weight", amount=1)),
}


@pytest.mark.parametrize("build", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_no_chain(build):
    assert Chain.of(build()) is None


def test_the_unchanged_network_is_a_chain():
    """So that the refusals above are due to what was changed."""
    assert Chain.of(plain()) is not None
