"""Starting a small training in one process or in several."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

WORKER = Path(__file__).parent / "distributed" / "worker.py"


def launch(folder, what, job):
    """Run the worker in `job["world"]` processes; one result per rank."""
    folder.mkdir(exist_ok=True)
    (folder / "job.json").write_text(json.dumps(job))
    command = [str(WORKER), what, str(folder / "job.json"), str(folder / "result")]
    if job["world"] > 1:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(job["world"]), *command]
    shared = [str(WORKER.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]  # what tests share
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(shared)}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(f"{folder / 'result'}.{rank}") for rank in range(job["world"])]
