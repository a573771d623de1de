"""Parameters as views of one tensor, and an optimizer that sees it and saves as if it did not."""

import copy
import io

import pytest
import torch
from torch import nn

from compared_fits import differences
from torchplug.components.builtin.adaptive_optimizers import Adam, AdamW, RMSprop
from torchplug.components.builtin.optimizers import SGD, Momentum, Nesterov
from torchplug.flat_storage import FlatGroups, FlatStorage


def parameters(dtype=torch.float64):
    torch.manual_seed(2)
    shapes = [(4, 3), (4,), (2, 4), (2,), (1,)]
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]


def weights_and_biases(everything):
    """Two groups, not in the order of the parameters."""
    return [[p for p in everything if p.ndim == 2], [p for p in everything if p.ndim == 1]]


# ---------------------------------------------------------------------- storage


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("grouped", [lambda everything: [everything], weights_and_biases])
def test_parameters_keep_their_values_and_share_one_memory(dtype, grouped):
    everything = parameters(dtype)
    kept = [p.detach().clone() for p in everything]
    storage = FlatStorage(grouped(everything))
    assert differences(kept, [p.detach() for p in everything]) == []
    order = [p for group in grouped(everything) for p in group]
    assert torch.equal(storage.values, torch.cat([p.detach().reshape(-1) for p in order]))
    assert len({p.untyped_storage().data_ptr() for p in everything}) == 1
    assert all(p.requires_grad and p.is_leaf and p.is_contiguous() for p in everything)
    assert [len(part) for part in storage.parts] == [sum(p.numel() for p in group) for group in grouped(everything)]
    assert storage.holds(everything)


def test_a_write_to_either_is_seen_in_the_other():
    everything = parameters()
    storage = FlatStorage(weights_and_biases(everything))
    with torch.no_grad():
        everything[0].fill_(7.0)
        storage.parts[1].fill_(3.0)
    assert (storage.values[:12] == 7.0).all()
    assert all((p == 3.0).all() for p in everything if p.ndim == 1)
    everything[2].grad.fill_(5.0)
    assert (storage.gradient == 5.0).sum() == 8
    assert (storage.parts[0].grad == 5.0).sum() == 8
    assert (storage.both == 5.0).sum() == 8


def test_autograd_accumulates_in_place():
    everything = parameters()
    storage = FlatStorage([everything])
    storage.gradient.zero_()
    for _ in range(2):
        sum(p.square().sum() for p in everything).backward()
    torch.testing.assert_close(storage.gradient, 4 * storage.values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients_start_where_tensors_do(dtype):
    """A product's bits may hang on where in memory it starts."""
    for size in (1, 3, 64, 65):
        storage = FlatStorage([[nn.Parameter(torch.randn(size, dtype=dtype))]])
        assert storage.values.data_ptr() % 64 == 0
        assert storage.gradient.data_ptr() % 64 == 0
        assert storage.both.isfinite().all()
        fresh = storage.gradients(storage.parameters, fresh=True)
        assert fresh[0].data_ptr() % 64 == 0


def test_fresh_gradients_are_laid_out_alike_elsewhere():
    everything = parameters()
    storage = FlatStorage([everything])
    own, fresh, again = (storage.gradients(everything, fresh=f) for f in (False, True, True))
    for a, b, p in zip(own, fresh, everything, strict=True):
        assert a.shape == b.shape == p.shape
        assert a.data_ptr() == p.grad.data_ptr() != b.data_ptr()
        assert (a.data_ptr() - own[0].data_ptr()) == (b.data_ptr() - fresh[0].data_ptr())
    assert fresh[0].data_ptr() != again[0].data_ptr()
    some = storage.gradients([everything[3], everything[0]])
    assert [g.data_ptr() for g in some] == [everything[3].grad.data_ptr(), everything[0].grad.data_ptr()]


@pytest.mark.parametrize("forget", ["module", "optimizer"])
def test_gradients_that_were_set_to_none_are_attached_again(forget):
    """Those of the parameters, and those that an optimizer of the parts looks at."""
    everything = parameters()
    storage = FlatStorage([everything])
    if forget == "module":
        for p in everything:
            p.grad = None
    else:
        SGD(storage.parts).zero_grad()
    storage.attach()
    storage.gradient.fill_(2.0)
    assert all((p.grad == 2.0).all() for p in everything)
    assert all(part.grad is not None and (part.grad == 2.0).all() for part in storage.parts)


def test_what_was_replaced_is_noticed():
    everything = parameters()
    storage = FlatStorage([everything])
    assert not storage.holds(everything[1:])
    assert not storage.holds([*everything, nn.Parameter(torch.zeros(1))])
    everything[1].data = everything[1].data.clone()
    assert not storage.holds(everything)
    everything = parameters()
    storage = FlatStorage([everything])
    everything[0].data = everything[0].data.float()
    assert not storage.holds(everything)


def test_released_parameters_have_memory_of_their_own():
    everything = parameters()
    storage = FlatStorage([everything])
    moved = torch.full((4,), 9.0, dtype=torch.float64)
    everything[1].data = moved  # somebody else's, which stays
    kept = [p.detach().clone() for p in everything]
    storage.release()
    assert differences(kept, [p.detach() for p in everything]) == []
    assert everything[1].data_ptr() == moved.data_ptr()
    assert len({p.untyped_storage().data_ptr() for p in everything}) == len(everything)
    assert all(p.untyped_storage().nbytes() == p.nbytes and p.grad is None for p in everything)
    storage.values.zero_()
    assert differences(kept, [p.detach() for p in everything]) == []


def test_a_copy_of_a_network_on_it_is_independent():
    net = nn.Linear(3, 2)
    storage = FlatStorage([list(net.parameters())])
    copied = copy.deepcopy(net)
    storage.values.zero_()
    assert copied.weight.abs().sum() > 0
    assert len({p.untyped_storage().data_ptr() for p in copied.parameters()}) == 2


# ---------------------------------------------------------------------- an optimizer over it

OPTIMIZERS = [
    (SGD, {}),
    (Momentum, {}),
    (Nesterov, {}),
    (RMSprop, {}),
    (Adam, {}),
    (AdamW, {"weight_decay": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.Adagrad, {}),
    (torch.optim.Adamax, {}),
]
EACH = pytest.mark.parametrize(("kind", "options"), OPTIMIZERS, ids=lambda x: getattr(x, "__name__", ""))


class Single:
    """An optimizer over single parameters in two groups, with step sizes of their own."""

    def __init__(self, kind, options):
        self.everything = parameters()
        self.groups = [
            {"params": group, "lr": lr}
            for group, lr in zip(weights_and_biases(self.everything), (0.1, 0.02), strict=True)
        ]
        self.optimizer = kind(self.arranged(), **options)

    def arranged(self):
        return self.groups

    def step(self, count=1):
        for _ in range(count):
            if hasattr(self.optimizer, "train"):
                self.optimizer.train()
            for i, p in enumerate(self.everything):
                gradient = torch.linspace(-1.0, 2.0, p.numel(), dtype=p.dtype).view(p.shape) * (i + 1) + p.detach()
                if p.grad is None:
                    p.grad = gradient
                else:
                    p.grad.copy_(gradient)
            self.optimizer.step()
            if hasattr(self.optimizer, "eval"):
                self.optimizer.eval()

    @property
    def values(self):
        return [p.detach().clone() for p in self.everything]


class Flat(Single):
    """The same over flat parts."""

    def __init__(self, kind, options):
        super().__init__(kind, options)
        self.flat.bind_optimizer(self.optimizer)

    def arranged(self):
        self.storage = FlatStorage([group["params"] for group in self.groups])
        self.flat = FlatGroups(self.storage)
        return self.flat.of(self.groups)


@EACH
def test_it_saves_what_an_optimizer_over_single_parameters_saves(kind, options):
    single, flat = Single(kind, options), Flat(kind, options)
    for count in (0, 1, 3):  # before the first step too
        single.step(count)
        flat.step(count)
        assert differences(single.values, flat.values, within=1e-14) == []
        assert differences(single.optimizer.state_dict(), flat.optimizer.state_dict(), within=1e-14) == []
    assert len(flat.optimizer.state) <= 2


@EACH
@pytest.mark.parametrize("source", [Single, Flat])
@pytest.mark.parametrize("target", [Single, Flat])
@pytest.mark.parametrize("steps", [0, 3])
def test_either_goes_on_from_what_the_other_saved(kind, options, source, target, steps):
    first = source(kind, options)
    first.step(steps)
    kept = io.BytesIO()
    torch.save((first.optimizer.state_dict(), first.values), kept)
    kept.seek(0)
    state, values = torch.load(kept, weights_only=True)
    second = target(kind, options)
    second.step(1)  # what is loaded replaces what was there
    with torch.no_grad():
        for p, value in zip(second.everything, values, strict=True):
            p.copy_(value)
    second.optimizer.load_state_dict(state)
    assert differences(first.optimizer.state_dict(), second.optimizer.state_dict(), within=1e-14) == []
    if steps:
        first.step(2)
        second.step(2)
        assert differences(first.values, second.values, within=1e-13) == []


@EACH
def test_what_it_saved_is_its_own(kind, options):
    flat = Flat(kind, options)
    flat.step(2)
    saved = flat.optimizer.state_dict()
    kept = copy.deepcopy(saved)
    flat.step(2)
    assert differences(saved["state"], kept["state"]) == []


@EACH
def test_dissolved_it_is_one_over_single_parameters(kind, options):
    single, flat = Single(kind, options), Flat(kind, options)
    for each in (single, flat):
        each.step(3)
    flat.flat.dissolve(flat.optimizer)
    flat.storage.release()
    assert [[id(p) for p in g["params"]] for g in flat.optimizer.param_groups] == [
        [id(p) for p in group] for group in weights_and_biases(flat.everything)
    ]
    assert differences(single.optimizer.state_dict(), flat.optimizer.state_dict(), within=1e-14) == []
    assert {id(key) for key in flat.optimizer.state} <= {id(p) for p in flat.everything}
    for each in (single, flat):
        each.step(3)
    assert differences(single.values, flat.values, within=1e-13) == []
    flat.optimizer.load_state_dict(single.optimizer.state_dict())
    assert differences(single.optimizer.state_dict(), flat.optimizer.state_dict()) == []


def test_groups_added_since_stay_when_it_is_dissolved():
    flat = Flat(Momentum, {})
    flat.step(1)
    more = nn.Parameter(torch.ones(2, dtype=torch.float64))
    flat.optimizer.add_param_group({"params": [more]})
    flat.flat.dissolve(flat.optimizer)
    assert [len(group["params"]) for group in flat.optimizer.param_groups] == [2, 3, 1]
    assert flat.optimizer.param_groups[2]["params"][0] is more


def group_of(*sizes):
    return {"params": [nn.Parameter(torch.ones(size)) for size in sizes]}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([group_of(3)], "different number of parameter groups"),
        ([group_of(12, 8), group_of(4, 2)], "doesn't match the size of optimizer's group"),
        ([group_of(20), group_of(7)], "doesn't match the size of optimizer's group"),
        ([group_of(3), group_of(3)], "doesn't match the size of optimizer's group"),
    ],
)
@pytest.mark.parametrize("kind", [Single, Flat])
def test_a_state_of_other_groups_is_refused(kind, groups, message):
    """In torch's words."""
    optimizer = kind(Adam, {})
    optimizer.step(1)
    with pytest.raises(ValueError, match=message):
        optimizer.optimizer.load_state_dict(Adam(groups).state_dict())


def test_options_of_a_group_are_saved_and_loaded():
    """A learning rate that a scheduler has moved."""
    flat = Flat(Adam, {})
    flat.step(1)
    flat.optimizer.param_groups[1]["lr"] = 0.5
    again = Flat(Adam, {})
    again.optimizer.load_state_dict(flat.optimizer.state_dict())
    assert [group["lr"] for group in again.optimizer.param_groups] == [0.1, 0.5]
