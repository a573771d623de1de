"""What is measured: a cell is a job at a batch size, in a process of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from training import names

Loss = Literal["mse", "bce", "cross_entropy"]

FEATURES = 32
_ROWS = 100_000
CHECKED_STEPS = 50
"""That everybody makes on the same batches: enough to show a difference, too few for rounding errors to grow."""


@dataclass(frozen=True)
class Cell:
    """A job at a batch size.

    Args:
        job: its name.
        loss: mean over the samples of a batch.
        hidden: widths of the hidden layers, with relu; empty: a linear model.
        outputs: the number of scores.
        source: `synthetic`, or `digits` of scikit-learn.
        rows: how many; of `digits` there are 1797.
        batch: rows a step.
        epochs: that count, of every repeat; one before them does not.
        repeats: how often each contestant trains.
        contestants: who takes part.
        features: the number of features; of `digits` there are 64.
    """

    job: str
    loss: Loss
    hidden: tuple[int, ...]
    outputs: int
    source: Literal["synthetic", "digits"]
    rows: int
    batch: int
    epochs: int
    repeats: int
    contestants: tuple[str, ...] = names.ALL
    features: int = FEATURES

    @property
    def name(self) -> str:
        """Such as mlp-256."""
        return f"{self.job}-{self.batch}"

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-self.rows // self.batch)


@dataclass
class Measured:
    """What one contestant did in a cell.

    Args:
        first: how long the first steps took, on the same batches for everybody, in seconds: with what is compiled.
        check: the loss on these after them.
        distance: after them, how far the parameters are from the bare loop's, over how far those have moved.
        seconds: of each epoch that counts, of all repeats.
        losses: on the training set when each repeat ended.
    """

    first: float
    check: float
    distance: float
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@dataclass
class CellResult:
    """What happened in a cell.

    Args:
        cell: which.
        measured: by contestant, in the order of `names.ALL`.
        absent: who could not take part, and why.
        start: the loss before training.
    """

    cell: Cell
    measured: dict[str, Measured]
    absent: dict[str, str]
    start: float

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def of(cls, plain: dict[str, Any]) -> CellResult:
        """From `plain`'s."""
        measured = {name: Measured(**values) for name, values in plain["measured"].items()}
        return cls(cell_of(plain["cell"]), measured, plain["absent"], plain["start"])


def cell_of(plain: dict[str, Any]) -> Cell:
    """From JSON, which has lists for tuples."""
    return Cell(**{**plain, "hidden": tuple(plain["hidden"]), "contestants": tuple(plain["contestants"])})


def _cell(job: str, loss: Loss, hidden: tuple[int, ...], batch: int, quick: bool) -> Cell:
    rows = (min(20_000, 60 * batch) if quick else _ROWS) // batch * batch
    epochs = 1 if rows // batch > 1000 else 2 if quick or rows // batch >= 200 else 4
    who = names.NETWORKS if hidden else names.ALL
    return Cell(job, loss, hidden, 1, "synthetic", rows, batch, epochs, 2 if quick else 5, who)


def training_cells(quick: bool) -> list[Cell]:
    """Linear and logistic regression and an MLP, at three batch sizes."""
    jobs: tuple[tuple[str, Loss, tuple[int, ...]], ...] = (
        ("linear", "mse", ()),
        ("logistic", "bce", ()),
        ("mlp", "mse", (64, 64)),
    )
    batches = (32, 4096) if quick else (32, 256, 4096)
    return [_cell(*job, batch, quick) for job in jobs for batch in batches]


def classifier_cells(quick: bool) -> list[Cell]:
    """An MLP of ten classes, as scikit-learn has one."""
    rows, epochs, repeats = (10_000, 1, 2) if quick else (_ROWS, 2, 5)
    digits = 4 if quick else 20
    hidden, who = (64, 64), names.CLASSIFIERS
    return [
        Cell("digits", "cross_entropy", hidden, 10, "digits", 1797, 200, digits, repeats, who, features=64),
        Cell("classes", "cross_entropy", hidden, 10, "synthetic", rows, 256, epochs, repeats, who),
    ]


@dataclass(frozen=True)
class RanksResult:
    """A job in one process, and in two that take a batch each; every process has one thread.

    Args:
        cell: the job and a rank's batch.
        one: seconds of each epoch that counts, of all repeats, in one process.
        two: in two.
        losses: on the training set when the last repeat ended, in one and in two.
    """

    cell: Cell
    one: list[float]
    two: list[float]
    losses: tuple[float, float]


def ranks_cells(quick: bool) -> list[Cell]:
    """For two processes of 256 rows a step each; one process makes twice as many steps of half as many rows."""
    rows = 2 * 256 * (20 if quick else 190)
    repeats = 1 if quick else 3
    return [
        Cell("ranks-linear", "mse", (), 1, "synthetic", rows, 256, 3, repeats, (names.OURS,)),
        Cell("ranks-mlp", "mse", (64, 64), 1, "synthetic", rows, 256, 3, repeats, (names.OURS,)),
    ]
