"""Parameters and their gradients as one flat tensor each, and an optimizer that sees them so.

A step of a small model is mostly overhead, paid per tensor: an elementwise update, a norm, a check for NaN or a
reduction over ranks costs the same for one tensor of all elements as for each of many small ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_ALIGNMENT = 64
"""In elements: where vector instructions like to start."""


class FlatStorage:
    """Parameters and their gradients, laid out as views of one tensor each.

    Args:
        groups: parameters of one dtype and device, each once; those of a group lie side by side.

    Attributes:
        values: (p,) all parameters, in the order of the groups.
        gradient: (p,) their gradients.
        both: the two, with zeros between.
        parts: one flat tensor per group, a view of `values` whose `grad` is a view of `gradient`.
    """

    def __init__(self, groups: Sequence[Sequence[nn.Parameter]]) -> None:
        self.groups = [list(group) for group in groups]
        self.parameters = [p for group in groups for p in group]
        values = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        size, start = len(values), -(-len(values) // _ALIGNMENT) * _ALIGNMENT
        self.both = values.new_zeros(start + size)
        self.values, self.gradient = self.both[:size].copy_(values), self.both[start:]
        self._gradients = _views(self.gradient, self.parameters)
        for parameter, view in zip(self.parameters, _views(self.values, self.parameters), strict=True):
            parameter.data = view
        sizes = [sum(p.numel() for p in group) for group in groups]
        self.parts = list(torch.split(self.values, sizes))
        self._part_gradients = list(zip(self.parts, torch.split(self.gradient, sizes), strict=True))
        self.attach()

    def attach(self) -> None:
        """Make each `grad` its view of the gradient, where somebody has set it to something else."""
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient
        for part, gradient in self._part_gradients:
            part.grad = gradient

    def gradients(self, parameters: Sequence[nn.Parameter], fresh: bool = False) -> list[Tensor]:
        """The views of the gradient that belong to these parameters.

        Args:
            parameters: some of those that lie here.
            fresh: whether in a new tensor that is laid out alike, down to the alignment on which a product's bits hang.
        """
        gradients = _views(torch.empty_like(self.gradient), self.parameters) if fresh else self._gradients
        views = {id(p): gradient for p, gradient in zip(self.parameters, gradients, strict=True)}
        return [views[id(p)] for p in parameters]

    def holds(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Whether these are its parameters, and still lie here."""
        same = {id(p) for p in parameters} == {id(p) for p in self.parameters}
        places = zip(self.parameters, _views(self.values, self.parameters), strict=True)
        return same and all(p.data_ptr() == view.data_ptr() and p.dtype == view.dtype for p, view in places)

    def release(self) -> None:
        """Give each parameter memory of its own again, where it still lies here."""
        for parameter, view in zip(self.parameters, _views(self.values, self.parameters), strict=True):
            if parameter.data_ptr() == view.data_ptr():
                parameter.data = parameter.data.clone()
            parameter.grad = None


class FlatGroups:
    """The parts of a flat storage as the groups of an elementwise optimizer, saved as if it saw each parameter.

    What it saves and loads has the layout of an optimizer over the single parameters, so that a checkpoint does not
    depend on how it was trained.

    Args:
        storage: its parameters are in the order of the groups.
    """

    def __init__(self, storage: FlatStorage) -> None:
        self._storage = storage
        self._hooks: list[Any] = []

    def of(self, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The same groups, each with its one flat tensor for parameters."""
        return [{**group, "params": [part]} for group, part in zip(groups, self._storage.parts, strict=True)]

    def bind_optimizer(self, optimizer: Optimizer) -> None:
        """Have an optimizer, built over these groups, save and load by parameter."""
        self._hooks = [
            optimizer.register_state_dict_post_hook(self._by_parameter),
            optimizer.register_load_state_dict_pre_hook(self._by_group),
        ]

    def dissolve(self, optimizer: Optimizer) -> None:
        """Turn an optimizer over these groups into one over the single parameters, state and all."""
        for hook in self._hooks:
            hook.remove()
        members = {id(part): group for part, group in zip(self._storage.parts, self._storage.groups, strict=True)}
        for group in optimizer.param_groups:
            part = group["params"][0]
            if id(part) not in members:
                continue  # added since
            parameters = members[id(part)]
            group["params"] = [*parameters, *group["params"][1:]]
            state = optimizer.state.pop(part, {})
            if state:
                for parameter, own in zip(parameters, _divided(state, parameters), strict=True):
                    optimizer.state[parameter] = own

    def _by_parameter(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        state, groups, count = _unkeyed(state_dict), [], 0
        for group, parameters in zip(state_dict["param_groups"], self._storage.groups, strict=True):
            own = state_dict["state"].get(group["params"][0])
            if own is not None:
                state |= dict(enumerate(_divided(own, parameters), start=count))
            groups.append({**group, "params": list(range(count, count + len(parameters)))})
            count += len(parameters)
        return {**state_dict, "state": state, "param_groups": groups}

    def _by_group(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        sizes = [len(group["params"]) for group in state_dict["param_groups"]]
        if len(sizes) != len(self._storage.groups):
            return state_dict  # torch says what does not fit
        if sizes != [len(group) for group in self._storage.groups]:
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        state, groups = _unkeyed(state_dict), []
        for index, group in enumerate(state_dict["param_groups"]):
            parameters = self._storage.groups[index]
            own = [state_dict["state"][i] for i in group["params"] if i in state_dict["state"]]
            if len(own) == len(parameters):
                state[index] = _joined(own, parameters)
            groups.append({**group, "params": [index]})
        return {**state_dict, "state": state, "param_groups": groups}


def _views(flat: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    pieces = torch.split(flat, [p.numel() for p in parameters])
    return [piece.view(p.shape) for piece, p in zip(pieces, parameters, strict=True)]


def _unkeyed(state_dict: dict[str, Any]) -> dict[Any, Any]:
    """What an optimizer saves under keys of its own, beside the parameters' state."""
    return {key: value for key, value in state_dict["state"].items() if not isinstance(key, int)}


def _divided(state: dict[str, Any], parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """One parameter's share each of a flat tensor's state; numbers are everybody's."""
    elements = sum(p.numel() for p in parameters)
    shares: list[dict[str, Any]] = [{} for _ in parameters]
    for key, value in state.items():
        whole = isinstance(value, Tensor) and value.shape == (elements,)
        values = _views(value, parameters) if whole else [value] * len(parameters)
        for share, own in zip(shares, values, strict=True):
            share[key] = own.clone() if isinstance(own, Tensor) else own
    return shares


def _joined(states: Sequence[dict[str, Any]], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """The flat tensor's state whose shares these are."""
    pairs = list(zip(states, parameters, strict=True))
    return {
        key: torch.cat([state[key].reshape(-1) for state in states])
        if all(isinstance(state[key], Tensor) and state[key].shape == p.shape for state, p in pairs)
        else value
        for key, value in states[0].items()
    }
