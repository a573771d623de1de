"""The gradient noise scale: the batch size at which gradients of batches are half signal, half noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torchplug.batch import Rows, TrainingSet
from torchplug.module import ComponentModule
from torchplug.objective import deterministic_eval
from torchplug.objective.sample import Sample

_ROWS = 2**13
_GROUP = 16


def noise_scale(module: ComponentModule, rows: TrainingSet, seed: int = 0) -> float:
    r"""Estimate the simple noise scale of the data's part of ∇F at a module's parameters, in rows.

        B = tr Σ / |G|²,    tr Σ = (mean |gₖ|² − |ḡ|²) / (1/b − 1/N),    |G|² = |ḡ|² − tr Σ/N

    with gradients gₖ of groups of b rows, ḡ that of all N rows, and Σ the covariance of a row's gradient. With batches
    of B rows training takes twice as many steps as with the whole training set, and twice as many rows as with tiny
    batches.

    Args:
        module: configured.
        rows: the training set, of which up to 8192 rows are used.
        seed: of the groups.

    Returns:
        B > 0; infinite at a minimum, where gradients are nothing but noise; NaN for fewer than 32 rows.

    Reference: McCandlish, Kaplan and Amodei (2018), arXiv:1812.06162, appendix A.
    """
    count = min(rows.samples, _ROWS) // _GROUP * _GROUP
    if count < 2 * _GROUP:
        return math.nan
    some = Sample(rows, min(rows.samples, _ROWS)).read(0, min(rows.samples, _ROWS))
    order = torch.randperm(len(some.weight), generator=torch.Generator().manual_seed(seed))[:count]
    gradients = torch.stack([_gradient(module, some, group) for group in torch.split(order, _GROUP)])
    mean = gradients.mean(dim=0)
    whole, small = float(mean @ mean), float(gradients.square().sum(dim=1).mean())
    variance = (small - whole) / (1.0 / _GROUP - 1.0 / count)
    signal = whole - variance / count
    return variance / signal if signal > 0.0 else math.inf


def _gradient(module: ComponentModule, rows: Rows, group: Tensor) -> Tensor:
    """The gradient (p,) of the mean weighted loss of some rows."""
    network = module.network
    assert network is not None, "it is configured"
    parameters = [p for part in (network, module.loss) for p in part.parameters() if p.requires_grad]
    like, target = parameters[0], rows.target[group]
    target = target.to(like) if target.is_floating_point() else target.to(like.device)
    with torch.enable_grad(), deterministic_eval(network):
        losses: Tensor = module.loss(network(rows.features[group].to(like)), target)
        value = (losses * rows.weight[group].to(losses)).mean()
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    parts = [p.new_zeros(p.numel()) if g is None else g.reshape(-1) for p, g in zip(parameters, found, strict=True)]
    return torch.cat(parts).double().cpu()
