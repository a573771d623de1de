"""`torchplug check`: the checks of `torchplug.testing` on the components of a distribution, or on one of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from torchplug.cli.output import Commands, Printed, as_json, offer_json, table
from torchplug.terminal import one_line, printable

if TYPE_CHECKING:
    from torchplug.testing import Result

_FAILED = 1
"""The exit status if a check failed."""


def add_to(commands: Commands) -> None:
    """Declare the subcommand."""
    checking = commands.add_parser(
        "check",
        help="whether components keep the contract",
        description="Check the components of a distribution, or those of a name, with the parameters and the expected "
        "failures of [tool.torchplug.check] in their project's pyproject.toml. Exit status 1 if a check fails. "
        "JSON is a list of objects (family, component, check, outcome, reason), with the summary on standard error.",
    )
    checking.add_argument("name", help="distribution, name, or distribution:name")
    checking.add_argument("--quick", action="store_true", help="leave out what starts processes or compilers")
    checking.set_defaults(command=_check)
    offer_json(checking)


def _check(options: argparse.Namespace) -> str | Printed:
    from torchplug.testing import checks, declared_in_projects, run_all, select, subject, summary  # none other needs it

    with redirect_stdout(sys.stderr):  # what components print must not stand in the way of JSON
        entries = select(options.name)
        declared = declared_in_projects(entries)
        components = [subject(entry, declared.parameters.get(entry)) for entry in entries]
        expected = {component.key: declared.expected.get(component.entry, {}) for component in components}
        number = sum(bool(each.families & {c.family}) for each in checks(quick=options.quick) for c in components)
        results = list(_shown(run_all(components, expected, quick=options.quick), number))
    results.sort(key=lambda result: result.outcome == "failed")  # where a reader looks: at the end
    status = _FAILED if any(result.outcome == "failed" for result in results) else 0
    if options.json:
        print(summary(results), file=sys.stderr)
        return Printed(as_json([result.plain() for result in results]), status)
    rows = [[r.family, r.component, r.check, r.outcome, one_line(r.reason)] for r in results]
    header = ["family", "component", "check", "outcome", "reason"]
    return Printed(f"{table(header, rows)}\n\n{printable(summary(results))}", status)


def _shown(results: Iterable[Result], number: int) -> Iterator[Result]:
    """The results, with how many there are on a terminal's standard error."""
    shows = sys.stderr.isatty()
    for done, result in enumerate(results, start=1):
        if shows:
            line = f"{done}/{number} {result.component} {result.check}"
            print(f"\r{printable(line)[:100]:<100}", end="", file=sys.stderr, flush=True)
        yield result
    if shows:
        print(f"\r{'':<100}\r", end="", file=sys.stderr, flush=True)
