"""One rank of a small fit or evaluation; `test_ddp.py` starts it alone and under torchrun.

Usage: worker.py fit|fit_each|steps|evaluate JOB.json RESULT.pt
"""

import json
import sys
import warnings

import lightning
import numpy as np
import torch
import torch.distributed

from compared_fits import Recorder
from torchplug import ComponentModule, TabularData
from torchplug.errors import NonFiniteGradientError

torch.set_num_threads(1)
warnings.filterwarnings("ignore", message=r".*num_workers.*|.*GPU available.*")


def trainer(**settings):
    world = settings.pop("world")
    return lightning.Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        **settings,
    )


def table(rows, kind, weighted):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(rows, 4))
    y = X @ rng.normal(size=4) + rng.normal(size=rows)
    columns = {f"x{i}": X[:, i] for i in range(4)}
    columns["y"] = y if kind == "regression" else np.where(np.arange(rows) % 2 == 0, "no", "yes")
    if weighted:
        columns["w"] = rng.uniform(0.2, 3.0, rows)
    import polars

    return polars.DataFrame(columns)


def build(job):
    torch.manual_seed(0)
    module = ComponentModule(
        job["model"],
        job["loss"],
        job["optimizer"],
        job.get("regularizers", []),
        job.get("scheduler"),
        job.get("metrics", []),
        engine=job.get("engine", "auto"),
        steps_per_execution=job.get("steps_per_execution", "auto"),
        sync_every=job.get("sync_every"),
        gradient_norms=job.get("gradient_norms", False),
    )
    frame = table(job["rows"], job.get("kind", "regression"), job.get("weighted", False))
    data = TabularData(
        frame,
        target="y",
        weights="w" if job.get("weighted") else None,
        split=job.get("split", [1.0, 0.0, 0.0]),
        batch_size=job["batch_size"],
    )
    return module, data


def fit(job):
    module, data = build(job)
    trainer(world=job["world"], **job["trainer"]).fit(module, data)
    return {name: p.detach() for name, p in module.network.named_parameters()}


def fit_each(job):
    """The weights, outcome and iterations after each of several fits, in one process group."""
    results = {}
    for name, changes in job["fits"].items():
        module, data = build({**job, **changes})
        trainer(world=job["world"], **job["trainer"]).fit(module, data)
        weights = torch.cat([p.detach().reshape(-1) for p in module.network.parameters()])
        outcome = None if module.outcome is None else module.outcome.name
        results[name] = {"weights": weights, "outcome": outcome, "iteration": vars(module.iteration)}
    return results


def steps(job):
    """What several fits of minibatches leave: weights, rows, steps, or how they failed; in one process group."""
    results = {}
    for name, changes in job["fits"].items():
        changed = {**job, **changes, "trainer": {**job["trainer"], **changes.get("trainer", {})}}
        module, data = build(changed)
        recorder, calls = Recorder(), []
        step = module.execution.training_step
        module.execution.training_step = lambda batch, step=step, calls=calls: (calls.append(1), step(batch))[1]
        run = trainer(world=job["world"], **changed["trainer"])
        run.loggers = [recorder]
        failure = None
        try:
            run.fit(module, data)
        except NonFiniteGradientError as error:
            failure = str(error)
        results[name] = {
            "network": {key: value.clone() for key, value in module.network.state_dict().items()},
            "optimizer": run.optimizers[0].state_dict(),
            "rows": recorder.rows,
            "steps": run.global_step,
            "calls": len(calls),
            "engine": module.execution.fit.stepper.engine.name,
            "failure": failure,
        }
    return results


def evaluate(job):
    """The metrics on validation splits of N rows, N from 1 to 10."""
    results = {}
    for rows in range(1, 11):
        module, _ = build({**job, "rows": 20})
        frame = table(30, job["kind"], False)
        data = TabularData(
            frame[:20],
            target="y",
            validation=frame[20 : 20 + rows],
            split=[1.0, 0.0, 0.0],
            batch_size=job["batch_size"],
        )
        data.prepare(module.data_request())
        module.configure(data)
        with torch.no_grad():
            for i, p in enumerate(module.network.parameters()):
                p.copy_(torch.linspace(-1, 1, p.numel()).view_as(p) + 0.1 * i)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (values,) = trainer(world=job["world"], precision="64-true").validate(module, data, verbose=False)
        scores = module.network(data.preprocessing.features(frame[20 : 20 + rows])).detach()
        results[rows] = {"values": values, "scores": scores, "target": frame["y"][20 : 20 + rows].to_list()}
    return results


if __name__ == "__main__":
    what, job, result = sys.argv[1:]
    with open(job) as file:
        outcome = {"fit": fit, "fit_each": fit_each, "steps": steps, "evaluate": evaluate}[what](json.load(file))
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    torch.save(outcome, f"{result}.{rank}")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
