"""`torchplug.ladder`: first one row, then a handful, then more, then all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.config import written_config
from torchplug.interruption import Interrupted
from torchplug.many.settings import TrainerSettings
from torchplug.module import ComponentModule
from torchplug.registry import registry
from torchplug.tracking.choices import chosen
from torchplug.tracking.provenance import provenance
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.wandb import wandb_logger
from torchplug.workflow import pictures
from torchplug.workflow.ladder.climbing import Climb
from torchplug.workflow.ladder.picture import draw
from torchplug.workflow.ladder.problem import Problem
from torchplug.workflow.ladder.result import Ladder, Rung


def ladder(
    config: Mapping[str, Any] | ComponentModule,
    data: TabularData,
    *,
    steps: int = 2000,
    trainer: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "ladder",
    root: str | Path = "runs",
    seed: int = 0,
) -> Ladder:
    """Train on one row, a handful, more and all, and name the likely cause where one of them is not learnt.

    Each rung starts from scratch, with the configuration's network, loss, optimizer and batch size, a constant learning
    rate, and without penalties, weight decay and dropout. It passes at accuracy 1 and a mean loss less than 0.01 above
    the least possible (0, but for smoothed labels and probabilities); for numbers at R² above 0.999, relative to the
    variance of the training split; or at the noise floor: of rows that contradict each other, or the minimum of a model
    with fewer parameters than rows. Then, on all rows: with penalties and dropout half of what can be learnt must still
    be learnt; the validation loss must fall below that of the best constant; and with shuffled targets it must not.
    Climbing ends at the first rung that fails. Its cause is found by looking at the network (mixed rows, dead or
    identical units, ignored inputs, links, gradients), then by training again with scaled inputs and other learning
    rates.

    The run directory has ladder.json, rungs.csv, losses.csv and ladder.png.

    Args:
        config: ComponentModule's parameters, or a module, which is left untrained.
        data: the table, in memory.
        steps: the most optimizer steps of a rung, at least 1; on all rows at least 30 epochs.
        trainer: parameters of Lightning's Trainer. Only precision and gradient clipping act: rungs are trained on the
            CPU by a plain loop.
        tracking: W&B's settings (`Tracking`), such as `{"mode": "disabled"}`.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        seed: of networks, batches and shuffled targets, 0 or more.

    Returns:
        the rungs, whether all passed, and the cause of the first failure.

    Raises:
        ConfigurationError: for components or settings that do not exist or do not go together.
        DataError: for a table that cannot be used.
        KeyboardInterrupt: after Ctrl-C; rungs that were tried are kept in the run directory.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> config = {"model": use("mlp", hidden=[64]), "loss": "cross_entropy", "optimizer": use("adam", lr=1e-2)}
        >>> found = torchplug.ladder(config, TabularData("iris"), tracking={"mode": "disabled"})  # doctest: +SKIP
        >>> found.passed, found.cause  # doctest: +SKIP
    """
    tracked = Tracking.of(tracking)
    module = config if isinstance(config, ComponentModule) else ComponentModule(**config)
    try:
        return Climbing(module, data, steps, trainer or {}, tracked, name, root, seed).run(lambda rung: None)
    except Interrupted as stop:
        raise KeyboardInterrupt("the ladder was interrupted: rungs that were tried are kept") from stop


@dataclass(frozen=True)
class Climbing:
    """A ladder to be climbed; the arguments are those of `ladder`."""

    module: ComponentModule
    data: TabularData
    steps: int
    trainer: Mapping[str, Any]
    tracking: Tracking
    name: str
    root: str | Path
    seed: int

    def run(self, watch: Callable[[str], None]) -> Ladder:
        """Climb, and write the run directory.

        Args:
            watch: is told the name of each rung before it is tried.

        Raises:
            TorchplugError: for input that is refused.
            Interrupted: if a signal stopped it.
        """
        if self.steps < 1:
            raise ConfigurationError(f"steps must be at least 1, not {self.steps}")
        chosen(self.tracking)
        settings = TrainerSettings(self.trainer)
        data = self.data.copied()
        problem = Problem.of(self.module, data, settings, self.steps, self.seed)
        run = Run.create(self.name, self.root)
        config = written_config(self.module, self.data, self.trainer, self.tracking, self.seed)
        config = {"ladder": {"steps": self.steps}, **config}
        run.write_config(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        components = [component.entry for component in self.module.components]
        origins = provenance(registry().plugins, components, data.fingerprint, self.seed)
        run.write_provenance(origins)
        climb, rungs = Climb(problem, data, watch), list[Rung]()
        try:
            rungs.extend(climb.rungs())
        finally:
            found = self._found(rungs, climb, run)
            self._write(found, data.notes)
        self._send(found, config, origins)
        name = "passed" if found.passed else "failed"
        reason = "all rungs passed" if found.cause is None else f"{found.rungs[-1].name}: {found.cause.name}"
        steps = sum(rung.steps for rung in found.rungs)
        run.write_outcome({"name": name, "reason": reason, "remedy": "", "epochs": None, "steps": steps})
        return found

    def _found(self, rungs: Sequence[Rung], climb: Climb, run: Run) -> Ladder:
        score = "accuracy" if climb.problem.has_classes else "r2"
        return Ladder(tuple(rungs), score, tuple(dict.fromkeys(climb.notes)), run)

    def _write(self, found: Ladder, notes: Sequence[str]) -> None:
        run, drawn = found.run, []
        if found.rungs:
            run.write_table("rungs.csv", found.table)
            run.write_table("losses.csv", found.losses)
            run.write_json("ladder.json", found.plain())
            if pictures.available():
                draw(found, run.path / "ladder.png")
            else:
                drawn = [pictures.INSTALL]
        run.write_notes([*notes, *found.notes, *drawn])

    def _send(self, found: Ladder, config: Mapping[str, Any], origins: Mapping[str, Any]) -> None:
        """Tell Weights & Biases: a row for each rung."""
        logger = wandb_logger(self.tracking, found.run, config, origins, {})
        if logger is None:
            return
        _ = logger.experiment  # begins the run
        for number, rung in enumerate(found.rungs, start=1):
            values = {"rows": rung.rows, "passed": int(rung.passed), "loss": rung.loss, found.score_name: rung.score}
            logger.log_metrics({f"ladder/{name}": value for name, value in values.items()}, number)
        logger.finish()
