"""How well the MLP recipe predicts, beside linear models, boosted trees, RealMLP-TD and TabM.

    python benchmarks/accuracy.py FOLDER [--islp WHEEL] [--names yacht iris ...] [--splits 5] [--held_out]
        [--fit ours linear hgb realmlp realmlp_log_loss tabm] [--python PYTHON] [--label LABEL] [--record FILE ...]
        [-- --ensemble 8]

The folder holds tables of numbers without a header, NAME.csv.gz, whose last column is the target, and for each a
NAME.test_mask.csv.gz with a column of 0 and 1 for each split: 1 where a row is tested. Other tables come with
scikit-learn, statsmodels and the wheel of ISLP (`pip download ISLP --no-deps`); a fifth of their rows is tested.

The recipe fits the other rows on its command line, with no flags but the data's and those after --, and predicts the
tested ones; a fifth of the rows it is given validates, as in RealMLP-TD and TabM. Linear models (RidgeCV,
LogisticRegression) and HistGradientBoosting fit all of them. RealMLP-TD and TabM need pytabkit, in an environment of
its own whose interpreter --python names. Every fit is a process of one thread, timed in CPU seconds without imports.

Each fit is appended to the last file of --record, and is not made again if a file has it; ours go by --label, so
that other flags need another label. Prints Markdown, in which ours are compared with the peers that the files have.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from interleaved import machine
from prediction.fits import OURS, fit
from prediction.peers import ONLY_CLASSES, PEERS
from prediction.record import Key, Record
from prediction.report import page
from prediction.tables import TABLES, Sources, split


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--islp", type=Path, help="the wheel of ISLP; without it, its tables are left out")
    parser.add_argument("--names", nargs="+", choices=TABLES, metavar="NAME", help=f"of {', '.join(TABLES)}")
    parser.add_argument("--held_out", action="store_true", help="the tables on which nothing is tuned, not the others")
    parser.add_argument(
        "--splits", type=int, default=5, choices=range(1, 11), help="how many of the splits are used, from the first"
    )
    known = [OURS, *PEERS]
    parser.add_argument("--fit", nargs="*", choices=known, default=[OURS, "linear", "hgb"], metavar="CONTESTANT")
    parser.add_argument("--python", default=sys.executable, help="the peers' interpreter")
    parser.add_argument("--label", default="defaults", help="the name of the recipe with these flags in the record")
    parser.add_argument("--record", type=Path, nargs="+", default=[], metavar="FILE", help="files of JSON lines")
    parser.add_argument("--limit", type=float, help="seconds after which a fit is stopped, and recorded as such")
    parser.add_argument("flags", nargs="*", help="after --: flags for the recipe")
    given = parser.parse_intermixed_args()
    if given.names is None:
        given.names = [name for name, table in TABLES.items() if table.held_out == given.held_out]
        given.names = [name for name in given.names if given.islp or not TABLES[name].needs_islp]
    elif needs := [name for name in given.names if TABLES[name].needs_islp and not given.islp]:
        parser.error(f"{', '.join(needs)}: give the wheel of ISLP by --islp (pip download ISLP --no-deps)")
    for path in filter(None, (given.folder, given.islp)):
        if not path.exists():
            parser.error(f"{path} does not exist")
    return given


def fit_missing(given: argparse.Namespace, record: Record) -> None:
    """Fit what the record lacks, the first split of all tables first.

    Raises:
        ValueError: if ours are recorded with other flags.
        RuntimeError: if a fit fails.
    """
    sources, label = Sources(given.folder, given.islp), f"{OURS}: {given.label}"
    for number, name, contestant in itertools.product(range(given.splits), given.names, given.fit):
        ours, classes = contestant == OURS, TABLES[name].classes
        if contestant in ONLY_CLASSES and not classes:
            continue
        key = Key(name, number, label if ours else contestant)
        if key in record:
            if ours and record[key]["flags"] != given.flags:
                raise ValueError(f"--label {given.label} is recorded with other flags for {name}: choose another")
            continue
        train, test = split(TABLES[name], sources, number)
        settings = {"flags": given.flags} if ours else {}
        reached = fit(contestant, train, test, classes, given.python, given.flags, given.limit)
        record.add(key, {"rows": len(train), "features": train.shape[1] - 1, **reached, **settings})
        print(*key, reached, file=sys.stderr, flush=True)


def main() -> int:
    """Fit what is missing, and print the page; returns the exit status."""
    given = parsed()
    try:
        record = Record(given.record)
        fit_missing(given, record)
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(machine("lightning", "scikit-learn"), "", sep="\n")
    print(page(record, given.names, given.splits, f"{OURS}: {given.label}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
