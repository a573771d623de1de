"""Fit files that are larger than the memory left; `test_larger_than_memory.py` starts it.

Usage: larger_than_memory.py SMALL.parquet LARGE.parquet MEBIBYTES OPTIMIZER…
Prints, as JSON, each optimizer's peak growth in MiB on either file, and its weights on the large one.
"""

import json
import resource
import sys
import warnings

import lightning
import torch

from torchplug import ComponentModule, TabularData, use

warnings.filterwarnings("ignore")
torch.set_num_threads(1)


def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024


def fit(path, optimizer):
    module = ComponentModule(use("linear"), "mse", optimizer, [use("l2", coefficient=1e-3)])
    data = TabularData(path, target="y", split=[0.8, 0.2, 0.0], batch_size="full", stream=True)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=100,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data)
    assert module.outcome.name == "converged", module.outcome
    return module.network.map.weight.detach().reshape(-1).tolist()


def growth(path, optimizer):
    """How far the peak rises above what is resident now."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    weights = fit(path, optimizer)
    return status("VmHWM") - before, weights


def main():
    small, large, limit, *optimizers = sys.argv[1:]
    result = {}
    for optimizer in optimizers:
        fit(small, optimizer)  # imports, thread pools and buffers are there from now on
    room = int((status("VmData") + float(limit)) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (room, room))
    for optimizer in optimizers:
        of_small, _ = growth(small, optimizer)
        of_large, weights = growth(large, optimizer)
        result[optimizer] = {"small": of_small, "large": of_large, "weights": weights}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
