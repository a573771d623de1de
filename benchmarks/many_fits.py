"""What a process keeps of 200 fits with run directories, by each way of fitting: memory, objects, threads, files.

python benchmarks/many_fits.py [--fits 200] [--only fit cross_validate search]
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import torchplug
from torchplug import TabularData, use

_WARM_UP = 10
_EPOCHS = {"max_epochs": 2, "accelerator": "cpu", "enable_progress_bar": False}
_OPTIONS: dict[str, Any] = {"trainer": _EPOCHS, "tracking": {"mode": "disabled"}}
_CONFIG = {"model": use("mlp", hidden=[16]), "optimizer": use("adam", lr=1e-2)}


@dataclass(frozen=True)
class Held:
    """What this process holds after a garbage collection.

    Args:
        memory: resident, in MB.
        tensors: live ones.
        modules: live `torch.nn.Module`s.
        objects: that the garbage collector tracks.
        threads: of Python.
        files: open descriptors.
    """

    memory: float
    tensors: int
    modules: int
    objects: int
    threads: int
    files: int

    @classmethod
    def now(cls) -> Held:
        """Collect garbage, and count."""
        gc.collect()
        objects = gc.get_objects()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            memory=pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            tensors=sum(issubclass(type(each), torch.Tensor) for each in objects),
            modules=sum(issubclass(type(each), torch.nn.Module) for each in objects),
            objects=len(objects),
            threads=threading.active_count(),
            files=len(os.listdir("/proc/self/fd")),
        )


def fit(number: int, root: str) -> int:
    """One fit; returns how many these are."""
    torchplug.fit(_CONFIG, TabularData("diabetes", batch_size=64), root=root, seed=number, **_OPTIONS)
    return 1


def cross_validate(number: int, root: str) -> int:
    """Five fits as one program, and their files."""
    torchplug.cross_validate(_CONFIG, TabularData("diabetes", batch_size=64), root=root, seed=number, **_OPTIONS)
    return 5


def search(number: int, root: str) -> int:
    """Ten fits as one program, and their study."""
    space = {"model.optimizer.lr": "log(1e-3,1e-1)"}
    data = TabularData("diabetes", batch_size=64)
    torchplug.search(_CONFIG, data, random=space, trials=8, repeats=2, root=root, seed=number, **_OPTIONS)
    return 10


WAYS: dict[str, Callable[[int, str], int]] = {"fit": fit, "cross_validate": cross_validate, "search": search}


def main() -> None:
    """Print a line for each way of fitting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=200)
    parser.add_argument("--only", nargs="*", choices=WAYS, default=list(WAYS))
    asked = parser.parse_args()
    print("| way | fits | memory, MB | tensors | modules | objects | threads | files |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in asked.only:
        with tempfile.TemporaryDirectory() as root:
            for number in range(_WARM_UP):
                WAYS[name](number, root)
            before, fits = Held.now(), 0
            while fits < asked.fits:
                fits += WAYS[name](_WARM_UP + fits, root)
            after = Held.now()
        grown = [f"{vars(after)[kind] - value:+.6g}" for kind, value in vars(before).items()]
        print(f"| {name} | {fits} | {' | '.join(grown)} |", flush=True)


if __name__ == "__main__":
    main()
