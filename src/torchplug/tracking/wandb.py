"""Weights & Biases: one run per job, from rank 0 only, whose failures never stop training."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import lightning.pytorch.loggers as lightning_loggers
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from typing_extensions import override

from torchplug.registry.component import Direction
from torchplug.terminal import printable
from torchplug.tracking.choices import chosen, chosen_mode, spell_for_wandb
from torchplug.tracking.flat_config import flat_config
from torchplug.tracking.jsonl import plain_values
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking

if TYPE_CHECKING:
    from wandb import Run as WandbRun

_T = TypeVar("_T")

STEP = "trainer/global_step"
"""The x axis, under the name that Lightning gives it."""

INIT_SECONDS = 30.0
"""Timeout of the server for accepting a run, after which the run is offline."""
BEGIN_SECONDS = 60.0
"""Timeout of a run's start: importing wandb, login, and the server's response."""
BROKEN_OFF_SECONDS = 4.0
"""Timeout of a run's start, and of its end, after an interruption or failure of the job."""
FINISH_SECONDS = 120.0
"""Timeout of uploads at the end of a run; the rest is on disk for `wandb sync`."""


def wandb_logger(
    tracking: Tracking,
    directory: Run,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    directions: Mapping[str, Direction],
    resumed: bool = False,
) -> WandbLogger | None:
    """Return the logger for the settings; None if tracking is disabled.

    Args:
        tracking: the settings.
        directory: the run, which contains W&B's folder.
        config: the resolved configuration, nested; logged as `flat_config` makes it.
        provenance: logged in W&B's config under its own key, `provenance`.
        directions: which value of a metric, whatever its split, is the best.
        resumed: whether the run continues one that may have been tracked.
    """
    tracking = chosen(tracking)
    if tracking.mode == "disabled":
        return None
    logged = {**flat_config(config), "provenance": dict(provenance)}
    return WandbLogger(tracking, directory, logged, directions, resumed)


class WandbLogger(lightning_loggers.WandbLogger):
    """Lightning's W&B logger, made safe: any failure of W&B becomes one warning, and training continues.

    The run starts on rank 0 at the first access of `experiment`, in a thread: training starts
    meanwhile, and rows wait for the run. If the server refuses, or does not respond in time (10 s for the
    login, 30 s for the run), the run is offline; if W&B fails later, logging to it stops. Values are
    those of metrics.jsonl. Call `finish` at the end of the job: it waits at most two minutes for uploads.

    Args:
        tracking: the settings; the mode is not disabled. Without an id, the run directory's name is the W&B run's id: a
            resumed run continues it.
        directory: the run.
        config: the run's config in W&B.
        directions: the direction of each metric, whatever its split, for W&B's summary of best values.
        resumed: whether the run continues one that may have been tracked: then call `replay` before anything is logged.
    """

    def __init__(
        self,
        tracking: Tracking,
        directory: Run,
        config: Mapping[str, Any],
        directions: Mapping[str, Direction],
        resumed: bool = False,
    ) -> None:
        self._run_id = tracking.id or re.sub(r"\W", "_", directory.path.name)
        super().__init__(name=tracking.name, save_dir=directory.path, project=tracking.project, id=self._run_id)
        self._tracking = tracking
        self._directory = directory
        self._config = dict(config)
        self._directions = dict(directions)
        self._defined: set[str] = set()
        self._beginning: Future[WandbRun | None] | None = None
        self._rows: list[tuple[Mapping[str, Any], int | None]] = []
        self._sent = 0
        self._is_resumed = resumed
        self._failed = False
        self._attach_id: str | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, or a proxy for it while it starts; an object without effect if there is none."""
        if self._experiment is None and not self._failed:
            if self._beginning is None:
                self._beginning = _in_thread(self._begin)
            if not self._beginning.done():
                return _Beginning(self)
        return self._run() or DummyLogger().experiment

    def _run(self, seconds: float = BEGIN_SECONDS) -> Any:
        """The run, waited for where it is still beginning; None where there is none."""
        if self._experiment is None and self._beginning is not None:
            try:
                self._experiment = self._beginning.result(seconds)
            except TimeoutError:  # an interrupted import may have left a lock that the thread waits for
                self._failed, self._beginning = True, None
                warn(f"the run has not begun within {seconds:.0f} s; metrics.jsonl has everything")
        elif self._experiment is None and not self._failed:
            self._experiment = self._begin()
        return self._experiment

    @override
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the resolved configuration is the run's config already."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        self._rows.append((plain_values(metrics), step))
        if self._beginning is None or self._beginning.done():
            self._log_rows()

    @rank_zero_only
    def replay(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log the earlier rows of a resumed run that W&B lacks.

        A server continues after its last row. Offline, the new folder holds the whole run, and the earlier folders are
        moved to `wandb/superseded`.
        """
        for row in rows:
            values = {name: value for name, value in row.items() if name != "step" and (name, value) != ("epoch", None)}
            self._rows.append((values, row["step"]))

    @rank_zero_only
    def _log_rows(self) -> None:
        """Log the rows that have come so far."""
        run, rows = self._run(), self._rows
        self._rows = []
        if self._failed:
            return
        for values, step in rows:
            self._sent += 1
            if self._sent <= run.starting_step:
                continue  # the server has it
            try:
                for name in sorted(values.keys() - self._defined):
                    self._define(run, name)
                run.log({**values, STEP: step})
            except Exception as error:
                self._failed = True
                warn(f"logging stopped at step {step}, training goes on", error)
                return

    @rank_zero_only
    def finish(self, exit_code: int = 0) -> None:
        """End the run: send the best checkpoint if requested, wait for uploads, print the path of an offline run.

        Args:
            exit_code: 0 marks the run as finished, anything else as failed.
        """
        if self._beginning is not None:
            self._run(BEGIN_SECONDS if exit_code == 0 else BROKEN_OFF_SECONDS)
            self._log_rows()
        run: Any = self._experiment
        self._experiment, self._beginning, self._failed = None, None, True
        if run is None:
            return
        folder = os.path.relpath(Path(run.dir).parent)
        try:
            if self._tracking.log_checkpoint:
                self._send_checkpoint(run)
            if exit_code == 0:
                run.finish(exit_code=exit_code)
            else:
                _in_thread(lambda: run.finish(exit_code=exit_code)).result(BROKEN_OFF_SECONDS)
        except Exception as error:
            warn(f"not everything was sent; try again with: wandb sync {folder}", error)
            if not isinstance(error, TimeoutError):
                _end_service()
        else:
            if run.offline:
                self._announce(folder)

    def _announce(self, folder: str) -> None:
        """Say how to send an offline run."""
        print(f"wandb: offline; send this run with: wandb sync {printable(folder)}", flush=True)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the run for spawned processes, of which rank 0 attaches to it."""
        if not self._failed:
            self._log_rows()
        attach = getattr(self._experiment, "_attach_id", None)
        return {**self.__dict__, "_experiment": None, "_beginning": None, "_attach_id": attach}

    def _begin(self) -> WandbRun | None:
        # W&B's own analytics use this server too: Python's exit would wait forever if it does not respond.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        spell_for_wandb()
        try:
            import wandb

            if self._attach_id is not None:
                attached: WandbRun | None = wandb._attach(self._attach_id)  # type: ignore[attr-defined]
                return attached
            if self._may_be_online():
                try:
                    return self._init("online")
                except Exception as error:
                    warn("the run is tracked offline, because the server did not accept it", error)
                    if wandb.run is None:
                        _end_service()  # which would hold the run's id
            return self._init("offline")
        except Exception as error:
            self._failed = True
            warn("this run is not tracked; metrics.jsonl has everything", error)
            return None

    def _may_be_online(self) -> bool:
        import wandb

        mode = chosen_mode(self._tracking.mode)
        if mode == "offline":
            return False
        try:
            # Without this, wandb.login obeys a WANDB_MODE that our own setting overrules.
            wandb.setup(wandb.Settings(silent=True, mode="online"))
            # While another run is active, wandb.login returns nothing.
            logged_in = not wandb.run.offline if wandb.run else wandb.login(prompt=False, verify=True)
        except Exception as error:
            warn("the run is tracked offline, because logging in failed", error)
            return False
        if not logged_in and mode != "auto":
            warn("the run is tracked offline, because wandb is not logged in: call `wandb login`")
        return logged_in

    def _init(self, mode: Literal["online", "offline"]) -> WandbRun:
        import wandb

        if mode == "offline" and self._is_resumed:
            self._set_aside_former_parts()
        settings = wandb.Settings(
            silent=True,
            console="off",  # captured progress bars are no use to anyone
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
        )
        run = wandb.init(
            mode=mode,
            project=self._tracking.project,
            group=self._tracking.group,
            tags=self._tracking.tags or None,
            name=self._tracking.name,
            id=self._run_id,
            resume="allow" if mode == "online" and (self._tracking.id or self._is_resumed) else None,
            dir=str(self._directory.path),
            config=self._config,
            # Neither continue nor become `wandb.run`, which a job before this one may have left behind.
            reinit="create_new",
            settings=settings,
        )
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        return run

    def _set_aside_former_parts(self) -> None:
        """Move the earlier offline folders of this run away, because `wandb sync` would send their rows again."""
        folder = self._directory.path / "wandb"
        for part in folder.glob(f"offline-run-*-{self._run_id}"):
            (folder / "superseded").mkdir(exist_ok=True)
            part.rename(folder / "superseded" / part.name)

    def _define(self, run: WandbRun, name: str) -> None:
        """Make W&B summarize a metric by its best value, beside the last."""
        self._defined.add(name)
        best = self._directions.get(name.rpartition("/")[2])
        if best is not None:
            run.define_metric(name, step_metric=STEP, summary=f"{best},last")

    def _send_checkpoint(self, run: WandbRun) -> None:
        import wandb

        if not self._directory.best.is_file():
            return
        artifact = wandb.Artifact(f"{self._directory.recipe}-{run.id}", type="model")
        artifact.add_file(str(self._directory.best))
        run.log_artifact(artifact, aliases=["best"])


class _Beginning:
    """Proxy of a run that is starting; an access waits for the run."""

    def __init__(self, logger: WandbLogger) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger._run() or DummyLogger().experiment, name)


def _in_thread(call: Callable[[], _T]) -> Future[_T]:
    """Make a call in a thread of its own, which the end of the process does not wait for."""
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="wandb", daemon=True).start()
    return done


def warn(what: str, error: BaseException | None = None) -> None:
    """Warn of a failure of W&B, which stops nothing."""
    reason = "" if error is None else f" ({type(error).__name__}: {' '.join(str(error).split())})"
    rank_zero_warn(f"Weights & Biases: {what}{reason}")


def _end_service() -> None:
    """Detach a service that died, on which wandb would fail again when Python exits."""
    import wandb

    with contextlib.suppress(Exception):
        wandb.teardown()
