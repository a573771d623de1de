"""Which trials are tried: all combinations, drawn ones, or those that a model of the results proposes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from torchplug.errors import ConfigurationError
from torchplug.workflow.search.settings import Values
from torchplug.workflow.search.space import Space
from torchplug.workflow.search.storage import quiet

Sampler = Literal["grid", "random", "tpe"]

TRIALS = 64
"""How many there are unless that is said, where a grid does not say it."""
_TOGETHER = 64
"""At most so many trials are trained together: those that are under way are lost when a process is killed."""
_LEARNING = 8
"""So many are where each batch learns from those before."""


def chosen_sampler(name: Sampler | None, space: Space) -> Sampler:
    """The sampler: unless it is named, a grid if all settings are lists given by `grid`, else random."""
    if name is not None:
        return name
    return "grid" if all(dimension.option == "grid" for dimension in space.dimensions) else "random"


def build_sampler(name: Sampler, seed: int, worker: str) -> Any:
    """Optuna's sampler, for the settings that are not fixed when a trial is planned.

    Args:
        name: the sampler.
        seed: of the search.
        worker: the process: each has draws of its own.
    """
    from optuna.samplers import RandomSampler, TPESampler

    with quiet():
        if name == "tpe":
            own = int(np.random.SeedSequence([seed, *worker.encode()]).generate_state(1)[0])
            return TPESampler(seed=own, constant_liar=True)
        return RandomSampler(seed)


def planned(name: Sampler, space: Space, trials: int | None, seed: int) -> list[Values]:
    """The values of each trial that are known beforehand: all of them, but for TPE.

    More trials begin with those of fewer.

    Args:
        name: the sampler.
        space: what is searched.
        trials: how many; None: the whole grid, or 64.
        seed: of what is drawn.

    Raises:
        ConfigurationError: for a grid of real numbers.
    """
    if trials is not None and trials < 1:
        raise ConfigurationError(f"--trials must be at least 1, not {trials}")
    if name == "grid":
        combinations = space.combinations()
        order = np.random.default_rng(seed).permutation(len(combinations))
        return [combinations[place] for place in order[:trials]]
    count = TRIALS if trials is None else trials
    return [{}] * count if name == "tpe" else list(_drawn(space, count, seed))


def _drawn(space: Space, count: int, seed: int) -> Iterator[Values]:
    """Yield trials: combinations of what is listed by `grid`, each equally often, and the rest drawn by Optuna."""
    import optuna

    with quiet():
        study = optuna.create_study(sampler=build_sampler("random", seed, ""))
        for combination in itertools.islice(_cycled(space.combinations("grid"), seed), count):
            yield space.ask(study.ask(), combination)


def _cycled(combinations: list[dict[str, Any]], seed: int) -> Iterator[dict[str, Any]]:
    """Yield all combinations again and again, each time in another order."""
    generator = np.random.default_rng(seed)
    while True:
        for place in generator.permutation(len(combinations)):
            yield combinations[place]


def together(sampler: Sampler, learns: bool, waiting: int, jobs: int) -> int:
    """How many trials are trained together.

    Args:
        sampler: what proposes them.
        learns: whether pruning compares them with trials that have ended.
        waiting: how many wait.
        jobs: how many processes share them.
    """
    if sampler == "tpe" or learns:
        return _LEARNING
    return min(_TOGETHER, max(1, -(-waiting // jobs)))
