"""The loop that an expert writes by hand."""

from __future__ import annotations

import time

import torch

from training.problem import LEARNING_RATE, Problem, Trained


def bare_loop(problem: Problem, fused: bool | None = None) -> Trained:
    """Shuffle once an epoch, then take views; nothing is logged.

    Args:
        problem: what to train on.
        fused: whether Adam is; None: torch's own choice.
    """
    network, loss, batch = problem.network, problem.loss, problem.cell.batch
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=fused)
    seconds = []
    for _ in range(problem.epochs):
        start = time.perf_counter()
        features, target = problem.features, problem.target
        if problem.shuffle:
            order = torch.randperm(len(features))
            features, target = features[order], target[order]
        for x, y in zip(torch.split(features, batch), torch.split(target, batch), strict=True):
            optimizer.zero_grad()
            loss(network(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return Trained(seconds, network)
