"""∇F of many models at once: linear maps as one product, chains by batched products, anything else by `torch.func`.

Symbols: F folds of M configurations, K = F·M models, model f·M + m the m-th of fold f; b rows, d features, k scores,
P parameters of a model. The tables of a fold are read once for all its models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from torchplug.chain import Stage
from torchplug.components.contracts import row_losses
from torchplug.many.folds import FoldBatch
from torchplug.many.losses import StackedLoss
from torchplug.many.stack import Layout, chosen
from torchplug.training.annealing import anneal

_BLOCK_NUMBERS = 2**21
"""How many numbers a block of models keeps between forward and backward: bounds memory."""


class StackGradients(ABC):
    """The data's part of ∇F.

    Args:
        layout: of the parameters.
        loss: of all models.
        folds: F.
        divides: whether Σ wℓ of a batch is divided by |B|.

    Attributes:
        buffers: of the network, (K, …) by name.
    """

    def __init__(self, layout: Layout, loss: StackedLoss, folds: int, divides: bool) -> None:
        self._layout = layout
        self._loss = loss
        self._folds = folds
        self._divides = divides
        self._scales: dict[tuple[int, ...], Tensor] = {}
        self.buffers: dict[str, Tensor] = {}

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        self._loss.keep(models)
        self.buffers = {name: buffer[list(models)] for name, buffer in self.buffers.items()}

    def state(self) -> dict[str, Any]:
        """What the next step depends on beside parameters and buffers, for a checkpoint."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most have no state
        """Restore what `state` returned."""

    def anneal(self, passed: float) -> None:  # noqa: B027 - chains do not change while they are trained
        """Tell the networks which part of the run is over, in [0, 1], at the start of an epoch."""

    def settle(self, moves: Tensor | None) -> None:  # noqa: B027 - most networks have no buffers
        """Let the buffers of the models that move, (K,) bool or all, be those after the last `write`."""

    @abstractmethod
    def write(self, values: Tensor, batch: FoldBatch, out: Tensor) -> Tensor:
        """Write ∇F at `values` (K, P) into `out` (K, P), penalties left out; returns Σ wℓ of each model, (K,)."""

    @abstractmethod
    def evaluate(self, values: Tensor, batch: FoldBatch) -> Tensor:
        """Σ wℓ of each model, (K,), dropout off, in float64."""

    def _scale(self, batch: FoldBatch) -> Tensor:
        """What the derivative of each row's loss is multiplied by, (F, b) or (F, 1)."""
        scale = self._scales.get(batch.samples)
        if scale is None:
            samples = [max(count, 1) if self._divides else 1 for count in batch.samples]
            scale = self._scales[batch.samples] = 1.0 / batch.features.new_tensor(samples).unsqueeze(1)
        return scale if batch.weight is None else batch.weight * scale


class LinearGradients(StackGradients):
    """One map without activation: the weights of a fold's M models are one matrix (M·k, d), or (M·k, d + 1)."""

    def write(self, values: Tensor, batch: FoldBatch, out: Tensor) -> Tensor:
        """Two products."""
        scores, target, loss = self._forward(values, batch)
        derivative = self._loss.derivative(loss, scores, target).mul_(self._scale(batch)[:, :, None, None])
        signal = derivative.view(*derivative.shape[:2], -1).transpose(1, 2)
        torch.bmm(signal, batch.features, out=out.view(self._folds, signal.shape[1], -1))
        return self._sums(scores, target, loss, batch)

    def evaluate(self, values: Tensor, batch: FoldBatch) -> Tensor:
        """One product."""
        scores, target, loss = self._forward(values, batch)
        return self._sums(scores, target, loss, batch, torch.float64)

    def _forward(self, values: Tensor, batch: FoldBatch) -> tuple[Tensor, Tensor, Any]:
        models = len(values) // self._folds
        matrix = values.view(self._folds, -1, batch.features.shape[2])
        scores = torch.bmm(batch.features, matrix.transpose(1, 2))
        scores = scores.view(*scores.shape[:2], models, -1)
        return scores, batch.target.unsqueeze(2), self._loss.of(slice(None), (self._folds, 1, models, 1))

    def _sums(
        self, scores: Tensor, target: Tensor, loss: Any, batch: FoldBatch, dtype: torch.dtype | None = None
    ) -> Tensor:
        values = self._loss.values(loss, scores, target)
        if batch.weight is not None:
            values = values * batch.weight.unsqueeze(2)
        return values.sum(1, dtype=dtype).view(-1)


class ChainGradients(StackGradients):
    """The chain rule by hand, for blocks of models of one fold.

    Args:
        stages: of the chain.
        dropout: the rate of each model, (K,) on the CPU; None where nothing is dropped.
        generators: what each model's dropout is drawn from.
        rest: what every `StackGradients` takes.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        dropout: Sequence[float] | None,
        generators: Sequence[torch.Generator],
        *rest: Any,
    ) -> None:
        super().__init__(*rest)
        self._stages = list(stages)
        self._dropout = dropout
        self._generators = list(generators)
        self._buffers: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def write(self, values: Tensor, batch: FoldBatch, out: Tensor) -> Tensor:
        """Forward and back, block by block."""
        scale, sums = self._scale(batch), []
        for fold, block in self._blocks(len(values), batch):
            views, gradients = self._layout.views(values[block]), self._layout.views(out[block])
            scores, tape, target, loss = self._forward(views, batch, fold, block, training=True)
            signal = self._loss.derivative(loss, scores, target).mul_(scale[fold].unsqueeze(1))
            sums.append(self._sums(scores, target, loss, batch, fold))
            self._backward(tape, signal, views, gradients)
        return torch.cat(sums)

    def evaluate(self, values: Tensor, batch: FoldBatch) -> Tensor:
        """Forward, block by block."""
        sums = []
        for fold, block in self._blocks(len(values), batch):
            scores, _, target, loss = self._forward(self._layout.views(values[block]), batch, fold, block)
            sums.append(self._sums(scores, target, loss, batch, fold, torch.float64))
        return torch.cat(sums)

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        super().keep(models)
        self._dropout = None if self._dropout is None else [self._dropout[model] for model in models]
        self._generators = [self._generators[model] for model in models]
        self._buffers.clear()

    def state(self) -> dict[str, Any]:
        """The generators of dropout, (K, ·) bytes."""
        drops = self._dropout is not None
        return {"generators": torch.stack([each.get_state() for each in self._generators])} if drops else {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        for generator, saved in zip(self._generators, state.get("generators", ()), strict=False):
            generator.set_state(saved.clone())

    def _blocks(self, models: int, batch: FoldBatch) -> Iterator[tuple[int, slice]]:
        each = models // self._folds
        width = sum(self._layout.shapes[stage.weight][0] for stage in self._stages)
        size = max(1, _BLOCK_NUMBERS // (2 * width * max(1, batch.features.shape[1])))
        for fold in range(self._folds):
            end = (fold + 1) * each
            for first in range(fold * each, end, size):
                yield fold, slice(first, min(first + size, end))

    def _sums(
        self, scores: Tensor, target: Tensor, loss: Any, batch: FoldBatch, fold: int, dtype: torch.dtype | None = None
    ) -> Tensor:
        values = self._loss.values(loss, scores, target)
        return (values if batch.weight is None else values * batch.weight[fold]).sum(1, dtype=dtype)

    def _forward(
        self, views: Mapping[str, Tensor], batch: FoldBatch, fold: int, block: slice, training: bool = False
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor, Tensor | None]], Tensor, Any]:
        """Scores (m, b, k) and a tape; h (m, b, ·) of the first map are the features, the same for every model."""
        models = block.stop - block.start
        h = batch.features[fold].expand(models, -1, -1)
        tape = []
        for stage in self._stages:
            weight = views[stage.weight].transpose(1, 2)
            u = torch.bmm(h, weight, out=self._buffer(stage.weight, models, h.shape[1], weight.shape[2], like=h))
            if stage.bias is not None:
                u.add_(views[stage.bias].unsqueeze(1))
            activation, mask = stage.activation, None
            after = u if activation is None else activation.apply(u)
            kept = after if activation is None or activation.keeps_output else u
            if training and stage.dropout is not None and self._dropout is not None:
                mask = self._mask(after, block, batch.samples[fold])
                after = after * mask
            tape.append((h, kept, mask))
            h = after
        return h, tape, batch.target[fold].unsqueeze(0), self._loss.of(block, (models, 1, 1))

    def _buffer(self, use: str, *shape: int, like: Tensor) -> Tensor:
        """Memory that is used again in every step: a fresh piece of some megabytes is cleared page by page."""
        key = (use, shape)
        if key not in self._buffers:
            self._buffers[key] = like.new_empty(shape)
        return self._buffers[key]

    def _mask(self, like: Tensor, block: slice, rows: int) -> Tensor:
        """Dropout as each model's own fit draws it, which draws nothing for padding."""
        assert self._dropout is not None
        mask = torch.zeros_like(like)
        for i, model in enumerate(range(block.start, block.stop)):
            keep, generator = 1.0 - self._dropout[model], self._generators[model]
            mask[i, :rows] = like.new_empty(rows, like.shape[2]).bernoulli_(keep, generator=generator).div_(keep)
        return mask

    def _backward(
        self, tape: Sequence[Any], signal: Tensor, views: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
    ) -> None:
        for stage, (h, kept, mask) in zip(reversed(self._stages), reversed(tape), strict=True):
            signal = signal if mask is None else signal * mask
            if stage.activation is not None:
                signal = stage.activation.pull_into(signal, kept, grad_input=signal)
            if stage.bias is not None:
                torch.sum(signal, 1, out=gradients[stage.bias])
            gradients[stage.weight].copy_(torch.bmm(signal.transpose(1, 2), h))
            if stage is not self._stages[0]:
                weight = views[stage.weight]
                buffer = self._buffer(f"{stage.weight} back", *signal.shape[:2], weight.shape[2], like=signal)
                signal = torch.bmm(signal, weight, out=buffer)


class FunctionalGradients(StackGradients):
    """Any network that draws no random numbers, by `torch.func.vmap` over the models of one fold.

    Args:
        network: one of them; its parameters are replaced.
        models: K.
        rest: what every `StackGradients` takes.
    """

    def __init__(self, network: nn.Module, models: int, *rest: Any) -> None:
        super().__init__(*rest)
        self._network = network
        self._moved: dict[str, Tensor] = {}
        saved = network.state_dict().keys()  # buffers that are not saved are constants, shared by all models
        self.buffers = {
            name: buffer.detach().expand(models, *buffer.shape).clone()
            for name, buffer in network.named_buffers()
            if name in saved
        }

    def write(self, values: Tensor, batch: FoldBatch, out: Tensor) -> Tensor:
        """`vmap(grad)` of the scores' loss."""
        self._network.train()
        (features, target, scale), loss = self._rows(batch), self._loss.of(slice(None), (-1,))
        weight = features.new_ones(1) if batch.weight is None else batch.weight[0]

        def value(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, Any]:
            scores = functional_call(self._network, {**parameters, **buffers}, (features,))
            each = row_losses(loss, scores, target)
            return (each * scale).sum(), ((each * weight).sum(), buffers)

        moving = {name: buffer.clone() for name, buffer in self.buffers.items()}
        found, (sums, self._moved) = vmap(grad(value, has_aux=True))(self._layout.views(values), moving)
        for name, view in self._layout.views(out).items():
            view.copy_(found[name])
        summed: Tensor = sums
        return summed

    def anneal(self, passed: float) -> None:
        """Tell the network that stands for all, which differ in parameters and buffers alone."""
        anneal(self._network, passed)

    def settle(self, moves: Tensor | None) -> None:
        """Take up what the network has written into its buffers."""
        for name, moved in self._moved.items():
            self.buffers[name] = moved if moves is None else chosen(moves, moved, self.buffers[name])

    def evaluate(self, values: Tensor, batch: FoldBatch) -> Tensor:
        """`vmap` of the network in evaluation mode."""
        self._network.eval()
        (features, target, _), loss = self._rows(batch), self._loss.of(slice(None), (-1,))

        def each(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            values: Tensor = loss(functional_call(self._network, {**parameters, **buffers}, (features,)), target)
            return values

        losses: Tensor = vmap(each)(self._layout.views(values), self.buffers)
        return (losses if batch.weight is None else losses * batch.weight[0]).sum(1, dtype=torch.float64)

    def _rows(self, batch: FoldBatch) -> tuple[Tensor, Tensor, Tensor]:
        return batch.features[0], batch.target[0], self._scale(batch)[0]
