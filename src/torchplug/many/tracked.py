"""The run directory of many models: made or resumed, and finished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from torchplug.data.splitting import DrawnRows
from torchplug.data.tabular import TabularData
from torchplug.errors import CheckpointError, ConfigurationError
from torchplug.fitting.environment import as_found
from torchplug.fitting.trainer import build_trainer
from torchplug.many.config import Epoch, configuration_of, refuse_others, rows_of, written_config
from torchplug.many.configurations import Configuration
from torchplug.many.grouping import Grouping
from torchplug.many.record import Model, RunRecord, adopted, epochs_done, new_content, resuming
from torchplug.many.result import Fitted
from torchplug.many.settings import TrainerSettings
from torchplug.registry import registry
from torchplug.terminal import one_line
from torchplug.tracking.agreement import is_rank_zero
from torchplug.tracking.choices import chosen
from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.provenance import provenance
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.stack import read_stack, stack_file
from torchplug.tracking.wandb_group import ConfigurationRun, send_configurations


def run_to_resume(path: str | Path, name: str, root: str | Path) -> Run:
    """The run that a text means: `last`, a run directory, or its checkpoint of all models.

    Args:
        path: the text; `last` is the newest run of the family.
        name: the family.
        root: the folder of all runs.

    Raises:
        CheckpointError: if there is none.
    """
    if str(path) == "last":
        found = [run for run in sorted((Path(root) / name).glob("*/")) if stack_file(run).is_file()]
        if not found:
            raise CheckpointError(f"no run of {name} in {root} can be resumed: start one first")
        return Run(found[-1])
    directory = Path(path)
    if directory.is_file():
        directory = directory.parent.parent
    if not stack_file(directory).is_file():
        raise CheckpointError(f"{path} is no run of many models: checkpoints/stack.ckpt is missing")
    return Run(directory)


@dataclass(frozen=True)
class TrackedFit:
    """Many models whose training is kept in a run directory.

    Args:
        configurations: all of them.
        folds: the rows of each; None: the data's own split.
        data: the table.
        settings: of the Trainer.
        tracking: W&B's settings.
        name: the folder of the run's family.
        root: the folder of all runs.
        resumed: the run to go on with; None for a new one.
        epoch: whose parameters models end with.
    """

    configurations: Sequence[Configuration]
    folds: Sequence[DrawnRows] | None
    data: TabularData
    settings: TrainerSettings
    tracking: Tracking
    name: str
    root: str | Path
    resumed: Run | None
    epoch: Epoch = "last"

    @contextmanager
    def record(self, grouping: Grouping) -> Iterator[RunRecord]:
        """Make the run directory, or take up that of a run that is resumed; what is refused leaves nothing.

        Raises:
            ConfigurationError: for settings that cannot be tracked, a limit of epochs below what is done, or a run in
                which another process trains.
            CheckpointError: if the run that is resumed has other configurations, folds or settings.
        """
        self.settings.refuse_in_run()
        chosen(self.tracking)
        if grouping.alone:
            with as_found():
                build_trainer(self.settings.of_run)  # refuses what it cannot do
        text = written_config(
            self.configurations, self.folds, self.data, self.settings.given, self.tracking, self.epoch
        )
        content = new_content(self.configurations, grouping, self.data)
        run = self.resumed or Run.create(self.name, self.root)
        with run.locked():
            if self.resumed is not None:
                refuse_others(run.config, text, run.path)
                content = adopted(content, read_stack(run.path), run.path)
                self._refuse_fewer_epochs(content, run)
            self._describe(run, text, grouping)
            record = RunRecord(run, content, partial(self._finish, run))
            record.begin()
            yield record

    def _finish(self, run: Run, fitted: Mapping[Model, Fitted]) -> None:
        """Tell Weights & Biases, and write the outcome if all have ended: a run that has one is finished."""
        outcome = _outcomes(fitted)
        if run.outcome == outcome:
            return  # nothing was left to be done
        if not (has_ended := all(own.ended for own in fitted.values())):
            rank_zero_info(f"interrupted: what is done is kept; {resuming(run)}")
        sent = self._sent(run, fitted)
        send_configurations(self.tracking, run, sent, run.provenance, self.resumed is not None)
        if has_ended:
            run.write_outcome(outcome)

    def _describe(self, run: Run, text: str, grouping: Grouping) -> None:
        if is_rank_zero():
            run.checkpoints.mkdir(exist_ok=True)
        entries = {part.entry: None for own in self.configurations for part in own.components.components}
        run.write_config(text)
        if self.folds is not None and self.resumed is None:
            run.write_folds(rows_of(self.folds))
        run.write_provenance(provenance(registry().plugins, entries, self.data.fingerprint, None))
        notes = dict.fromkeys(note for share in grouping.shares for data in share.members.folds for note in data.notes)
        run.write_notes([one_line(note) for note in (grouping.note(), *notes)])

    def _refuse_fewer_epochs(self, content: Mapping[str, Any], run: Run) -> None:
        done, limit = max(epochs_done(run, content).values(), default=0), self.settings.trainer.max_epochs
        if limit is not None and 0 <= limit < done:
            raise ConfigurationError(
                f"{run.path} has {done} epochs behind it: ask for as many at least, such as max_epochs {2 * done}"
            )

    def _sent(self, run: Run, fitted: Mapping[Model, Fitted]) -> Iterator[ConfigurationRun]:
        """What Weights & Biases is told, configuration by configuration: metrics are computed when it is asked for."""
        config, rows = run.config, JsonlLogger(run).read()
        shared = {name: config[name] for name in ("data", "trainer")}
        for number, configuration in enumerate(self.configurations):
            own = [of_one for (c, _), of_one in sorted(fitted.items()) if c == number]
            names = Counter(one.result.outcome.name if one.ended else "interrupted" for one in own)
            yield ConfigurationRun(
                number=number,
                config={"model": configuration_of(config, number), **shared, "folds": len(own)},
                rows=[row for row in rows if row["configuration"] == number],
                final=[one.result.metrics for one in own],
                outcome=_counted(names),
                succeeded=not {"stalled", "interrupted"} & set(names),
                directions=configuration.components.metric_choice.directions,
            )


def _outcomes(fitted: Mapping[Model, Fitted]) -> dict[str, Any]:
    """How all ended, and how each did."""
    names = Counter(own.result.outcome.name for own in fitted.values())
    models = [
        {"configuration": number, "fold": fold, **vars(own.result.outcome), "epochs": own.epochs, "steps": own.steps}
        for (number, fold), own in fitted.items()
    ]
    (commonest, _), *_ = names.most_common()
    remedy = "see the models' own" if "stalled" in names else ""
    most = {name: max(model[name] for model in models) for name in ("epochs", "steps")}
    reason = f"{len(models)} models: {_counted(names)}"
    return {"name": commonest, "reason": reason, "remedy": remedy, **most, "models": models}


def _counted(names: Counter[Any]) -> str:
    if len(names) == 1:
        return str(next(iter(names)))
    return ", ".join(f"{number} {name}" for name, number in names.most_common())
