"""How a recipe ends: its exit status, and the one line that says why, printed by one of its ranks."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from torchplug import interruption
from torchplug.errors import PluginError, TorchplugError
from torchplug.fitting.ranks import first_rank
from torchplug.interruption import INTERRUPTED, Interrupted
from torchplug.network_memory import naming_lack_of_memory
from torchplug.processes import job as jobs
from torchplug.recipe.output import safe_output
from torchplug.terminal import one_line, shortened
from torchplug.tracebacks import TRACEBACKS, shows_tracebacks


def reports_errors(main: Callable[..., int]) -> Callable[..., int]:
    """Make what torchplug raises on purpose one line on stderr and an exit status, and handle Ctrl-C and SIGTERM.

    Other exceptions keep their traceback: they are defects of the library or of a recipe. In a job of several ranks an
    error is said once: by rank 0, or by the rank that has met it alone, with its number.
    """

    @functools.wraps(main)
    def reporting(arguments: Sequence[str] | None = None) -> int:
        name = Path(inspect.getfile(main)).name
        with safe_output(name), interruption.handled(name, first_rank):
            try:
                status = _status(lambda: main(arguments), name)
                interruption.will_end(status)
            except BaseException:
                interruption.will_end(1)
                raise
            finally:
                jobs.end()
        return status

    return reporting


def _status(run: Callable[[], int], name: str) -> int:
    """The end of a run by an exception; those of neither the library nor lost ranks are raised again."""
    try:
        with naming_lack_of_memory():
            return run()
    except jobs.RankEndedError as error:
        return _end_with(error, error.verdict)
    except TorchplugError as error:
        return _refused(error, name)
    except (KeyboardInterrupt, Interrupted):
        _tell("interrupted", INTERRUPTED)
        if _job() is None:
            print(interruption.message("interrupted"), file=sys.stderr, flush=True)
        return INTERRUPTED
    except Exception as error:
        job = jobs.current()
        if job is None:
            raise
        if not jobs.is_collective_failure(error):
            _tell("failed", 1, f"{type(error).__name__}: {' '.join(str(error).split())}")
            raise
        return _end_with(error, job.cause())


def _refused(error: TorchplugError, name: str) -> int:
    """Print the error once, whichever ranks have met it."""
    if isinstance(error, PluginError) and shows_tracebacks():
        traceback.print_exception(error)
    text, status = shortened(one_line(str(error))), error.exit_status
    interruption.will_end(status)  # torchrun ends all ranks when one has ended
    job = _job()
    if job is None:
        _print(name, text)
        return status
    job.part()
    job.tell_end("refused" if status == 2 else "stopped", status, text)
    if job.says(text):
        _print(name, text if job.rank == 0 else f"rank {job.rank}: {text}")
    return status


def _end_with(error: BaseException, verdict: jobs.Verdict | None) -> int:
    """End because another rank has ended: one of those that are left says so."""
    job = jobs.current()
    assert job is not None, "only a rank of a job loses another"
    if shows_tracebacks():
        traceback.print_exception(error)
    if verdict is None and interruption.requested():
        verdict = jobs.Verdict(INTERRUPTED, "interrupted")
    if verdict is None:
        lines = str(error).splitlines() or [type(error).__name__]
        verdict = jobs.Verdict(3, f"the ranks have lost each other ({lines[0]}); {TRACEBACKS}=1 prints tracebacks")
    interruption.will_end(verdict.status)
    job.part()
    job.tell_end("lost", verdict.status)
    if verdict.text and job.is_speaker():
        is_error = verdict.status != INTERRUPTED
        print(interruption.message(verdict.text, is_error), file=sys.stderr, flush=True)
    return verdict.status


def _job() -> jobs.Job | None:
    try:
        return jobs.current()
    except TorchplugError:
        return None  # where no meeting can be had every rank says so


def _tell(kind: str, status: int, text: str = "") -> None:
    job = _job()
    if job is not None:
        job.tell_end(kind, status, text)


def _print(name: str, text: str) -> None:
    print(f"{name}: error: {text}", file=sys.stderr, flush=True)
