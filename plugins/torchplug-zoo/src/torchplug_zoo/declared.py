"""What signatures and docstrings do not say of the libraries' components, by the components' names."""

from __future__ import annotations

from typing import Literal

from torchplug import Capability

_BY_LOSS = {
    *("po_alig", "po_bsam", "po_emofact", "po_emolynx", "po_emonavi", "torch_lbfgs"),
    *("schedulefree_adamwclosure", "schedulefree_radamclosure", "schedulefree_sgdclosure"),
}
"""Optimizers whose step evaluates the loss, or decides by it."""

_BY_CURVATURE = {"po_adahessian", "po_sophiah", "timm_adahessian"}
"""Optimizers whose step differentiates the gradient."""

_BY_ELEMENT = {
    *("torch_adadelta", "torch_adagrad", "torch_adam", "torch_adamax", "torch_adamw", "torch_asgd"),
    *("torch_nadam", "torch_radam", "torch_rmsprop", "torch_rprop", "torch_sgd"),
}
"""Optimizers that treat each element by itself, whatever their settings: options of others take norms of tensors."""

_BY_MATRIX = "torchplug_zoo.groups:matrices_by_muon"
GROUPS = dict.fromkeys(
    ("po_adago", "po_adamuon", "po_distributedmuon", "po_muon", "po_muonclip", "po_normuon"), _BY_MATRIX
)
"""Rules of parameter groups."""

INTERVALS: dict[str, Literal["epoch", "step"]] = {
    "po_cosine_annealing_warmup_restarts": "step",
    "po_wsd": "step",
    "torch_cyclic_lr": "step",
}
"""Schedulers that count optimizer steps, as their documentation says, although they do not ask for `total_steps`."""

LICENSES = {"po_fromage": "CC BY-NC-SA 4.0", "po_nero": "CC BY-NC-SA 4.0"}
"""Licenses that are not permissive, from the libraries' own notes."""

_ADAPTED = (
    *("po_adalomo", "po_lomo", "po_magma", "po_proportion"),
    *("torch_chained_scheduler", "torch_lambda_lr", "torch_multiplicative_lr", "torch_sequential_lr"),
    *("po_adammini", "po_ranger21", "po_scion", "po_scionlight", "po_spectralsphere"),
)
TARGETS = {name: f"torchplug_zoo.adapted:{name}" for name in _ADAPTED}
"""Targets other than the library's own class, whose signature does not serve."""


def capabilities(name: str) -> frozenset[Capability]:
    """Return what an optimizer supports or needs beyond gradients."""
    if name in _BY_CURVATURE:
        return frozenset({Capability.GRAPH})
    if name in _BY_LOSS:
        return frozenset({Capability.CLOSURE})
    return frozenset({Capability.GRADIENTS, *({Capability.ELEMENTWISE} if name in _BY_ELEMENT else ())})
