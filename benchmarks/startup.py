"""From `python recipes/linear_regression.py` to the first training step and to the end, beside what it must import.

    python benchmarks/startup.py [--quick]

Prints Markdown. Each contestant is a process of its own, started in turn, several rounds after one that does not count
and that leaves everybody's bytecode behind. The clock runs from before the process starts. Tracking is off, or W&B's
without a server.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from interleaved import in_turn, machine, ratio, spread, table

RECIPE = Path(__file__).parents[1] / "recipes" / "linear_regression.py"
LIGHTNING = "import lightning.pytorch"
IMPORTED, END = "imported", "end"

REPORT = """
import time

def report(what):
    print("reached", what, "at", time.monotonic(), flush=True)

def report_first_step():
    from torch.optim.optimizer import register_optimizer_step_post_hook

    def stepped(*_):
        handle.remove()
        report("first step")

    handle = register_optimizer_step_post_hook(stepped)
"""

IMPORT_PROGRAM = f"""
{REPORT}
{{statement}}
report("imported")
"""

# The recipe as it stands, except that the first step is watched for once its command line has been read.
RECIPE_PROGRAM = f"""
import runpy, sys
from torchplug import recipe
{REPORT}
parse = recipe.parse

def parse_and_watch(*arguments):
    command = parse(*arguments)
    report_first_step()
    return command

recipe.parse = parse_and_watch
sys.argv = [{str(RECIPE)!r}]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# As little as Lightning needs: no data to read, no settings, no logger, no checkpoint.
PLAIN_PROGRAM = f"""
import torch, lightning.pytorch as lightning
from torch.utils.data import DataLoader, TensorDataset
{REPORT}
class Regression(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(10, 1)

    def training_step(self, batch, index):
        return torch.nn.functional.mse_loss(self.linear(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, nesterov=True)

report_first_step()
data = DataLoader(TensorDataset(torch.randn(353, 10), torch.randn(353, 1)), batch_size=353)
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
lightning.Trainer(max_epochs=1, **quiet).fit(Regression(), data)
"""


def run(program: str, **environment: str) -> dict[str, float]:
    """Seconds until the program reports that it has reached something, and until its process has ended."""
    # A user's Python keeps bytecode; without it, the time would be that of compiling this library.
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", program]
        start = time.monotonic()
        process = subprocess.run(
            command, cwd=folder, env={**inherited, **environment}, capture_output=True, text=True, check=False
        )
        end = time.monotonic() - start
    if process.returncode != 0:
        raise RuntimeError(process.stderr)
    reached = re.findall(r"^reached (.+) at ([\d.]+)$", process.stdout, re.MULTILINE)
    return {what: float(at) - start for what, at in reached} | {END: end}


def rows(results: Mapping[str, Sequence[Mapping[str, float]]]) -> list[tuple[str, str, str, str]]:
    """A line for each contestant and what was measured of it."""
    reference = [seconds[IMPORTED] for seconds in results[LIGHTNING]]
    lines = []
    for name, rounds in results.items():
        for what in rounds[0]:
            reached = [seconds[what] for seconds in rounds]
            lines.append((name, what, spread(reached), f"{ratio(reached, reference):.2f}"))
    return lines


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 9")
    rounds = 3 if parser.parse_args().quick else 9
    contestants: dict[str, Callable[[], dict[str, float]]] = {
        "import torch": partial(run, IMPORT_PROGRAM.format(statement="import torch")),
        LIGHTNING: partial(run, IMPORT_PROGRAM.format(statement=LIGHTNING)),
        "a script with Lightning alone": partial(run, PLAIN_PROGRAM),
        f"{RECIPE.name}, untracked": partial(run, RECIPE_PROGRAM, WANDB_MODE="disabled"),
        f"{RECIPE.name}, tracked offline": partial(run, RECIPE_PROGRAM, WANDB_MODE="offline"),
    }
    results = {name: several[1:] for name, several in in_turn(contestants, 1 + rounds).items()}
    print(machine("lightning", "torchmetrics", "torchplug"), end="\n\n")
    print(table(("process", "until", "ms, median (range)", f"times `{LIGHTNING}`, {IMPORTED}"), rows(results)))


if __name__ == "__main__":
    main()
