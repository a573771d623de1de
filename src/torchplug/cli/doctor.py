"""`torchplug doctor`: what is wrong with the installed plugins, and what to do about each fault.

Plugins are loaded, with their components, in another process; if that hangs or dies, each is loaded in a process of its
own, so that the one that does it is named and hinders nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from torchplug import __version__
from torchplug.cli.output import Commands, Printed, as_json, offer_json
from torchplug.registry.discovery import SLOW_SECONDS
from torchplug.registry.installed import Installation, installations
from torchplug.registry.lock import altered
from torchplug.registry.permissions import ALLOW_LIST, BLOCK_LIST, BUILTIN, Permissions
from torchplug.terminal import one_line

PATIENCE = 60.0
"""Seconds after which a plugin that has not loaded with all its components is taken to hang."""

_FOUND = 1
"""The exit status if there is a fault."""
_Record = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One fault of a plugin.

    Args:
        distribution: the plugin's.
        version: the distribution's.
        problem: what is wrong.
        remedy: what to do about it.
    """

    distribution: str
    version: str
    problem: str
    remedy: str


def add_to(commands: Commands) -> None:
    """Declare the subcommand."""
    doctor = commands.add_parser(
        "doctor",
        help="what is wrong with plugins, and the remedy",
        description="Load every plugin with all its components, and explain conflicts, failures, versions that do not "
        "match, changed files, slow imports and changed global state. Exit status 1 if there is a fault. JSON is a "
        "list of objects with distribution, version, problem and remedy.",
    )
    doctor.set_defaults(command=_doctor)
    offer_json(doctor)


def _doctor(options: argparse.Namespace) -> Printed:
    installed, permissions = installations(), Permissions.current()
    permitted = [one for name, one in installed.items() if permissions.refusal(name) is None]
    findings = [finding for one in permitted for finding in _of_installation(one)]
    records, dead = _loaded([one for one in permitted if one.name != BUILTIN])
    findings += dead
    findings += [
        Finding(name, "", f"{origin} names it, and it is not installed", f"pip install {name}, or take it off the list")
        for name, origin in permissions.missing(installed).items()
    ]
    for record in records:
        findings += _of_record(record)
    findings += _conflicts(records)
    status = _FOUND if findings else 0
    if options.json:
        return Printed(as_json([asdict(finding) for finding in findings]), status)
    return Printed("\n".join(map(_line, findings)) or f"no fault found in {len(permitted)} plugins", status)


def _line(finding: Finding) -> str:
    return one_line(f"{finding.distribution} {finding.version}: {finding.problem}: {finding.remedy}")


def _of_installation(installation: Installation) -> Iterator[Finding]:
    """Faults that its metadata and files show."""
    name, version = installation.name, installation.version
    if not installation.accepts(__version__):
        yield Finding(
            name,
            version,
            f"it requires torchplug {installation.requirement}, and {__version__} is installed",
            f"pip install --upgrade torchplug {name}",
        )
    if installation.altered:
        problem, _, remedy = altered(installation).removeprefix(f"{name} {version} ").rpartition(": ")
        yield Finding(name, version, f"it {problem}", remedy)


def _loaded(plugins: Sequence[Installation]) -> tuple[list[_Record], list[Finding]]:
    """The records of plugins and of the built-in components; and findings for those whose process does not answer."""
    answer = _probe([plugin.name for plugin in plugins], says_what_is_slow=True)
    if not isinstance(answer, str):
        return answer, []
    each = f"torchplug: plugins do not load together: each is tried by itself, for at most {PATIENCE:g} s"
    print(each, file=sys.stderr, flush=True)
    answers = [(plugin, _probe([plugin.name])) for plugin in plugins]
    records = _probe([])
    found = [] if isinstance(records, str) else records
    found += [one for _, each in answers if not isinstance(each, str) for one in each if one["distribution"] != BUILTIN]
    dead = [Finding(p.name, p.version, each, _leave_out(p.name)) for p, each in answers if isinstance(each, str)]
    return found, dead


def _probe(names: Sequence[str], says_what_is_slow: bool = False) -> list[_Record] | str:
    """The records from a process that loads these plugins alone; if it does not answer, why.

    Args:
        names: of the plugins.
        says_what_is_slow: whether the lines that name slow plugins, and what else is on standard error, are shown.
    """
    environment = {
        **os.environ,
        ALLOW_LIST: ",".join(names),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONSAFEPATH": "1",  # its working directory is no place to import from
        "PYTHONUTF8": "1",
    }
    command = [sys.executable, "-m", "torchplug", "plugins", "--targets", "--json"]
    try:
        answer = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if says_what_is_slow else subprocess.DEVNULL,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
        records: list[_Record] = json.loads(answer.stdout)
    except subprocess.TimeoutExpired:
        return f"it does not load with its components within {PATIENCE:g} s"
    except ValueError:
        ended = f"exit status {answer.returncode}" if answer.returncode >= 0 else f"signal {-answer.returncode}"
        return f"it ends the process while it is loaded ({ended})"
    return records


def _leave_out(name: str) -> str:
    return f"update or uninstall it, or leave it out by {BLOCK_LIST}={name}"


def _of_record(record: _Record) -> Iterator[Finding]:
    """Faults that showed when it was loaded."""
    name, version = record["distribution"], record["version"]
    if record["status"] == "broken":
        yield Finding(name, version, record["error"], _leave_out(name))
    for target in record["targets"]:
        if target["error"]:
            problem = target["error"].removeprefix(f"{name} {version} is broken: ")
            yield Finding(name, version, problem, f"update {name}, or use another component")
    if record["seconds"] > SLOW_SECONDS:
        yield Finding(
            name,
            version,
            f"it takes {record['seconds']:.1f} s to load, for which every command waits",
            f"its author should import heavy modules in targets, not in {record['entry_point']}",
        )
    if record["changed"]:
        yield Finding(
            name,
            version,
            f"it changes {', '.join(record['changed'])} when it is imported, which is restored each time",
            "its author should not change what belongs to the program",
        )


def _conflicts(records: Sequence[_Record]) -> Iterator[Finding]:
    """Names that several distributions offer in one family."""
    offers = sorted(
        (known["family"], known["name"], record["distribution"], record["version"])
        for record in records
        for known in record["components"]
    )
    for (family, name), group in groupby(offers, key=lambda offer: offer[:2]):
        owners = {distribution: version for _, _, distribution, version in group}
        others = [owner for owner in owners if owner != BUILTIN]
        if BUILTIN in owners:
            for owner in others:
                problem = f"its {family} {name} has the name of a built-in one, which the bare name means"
                yield Finding(owner, owners[owner], problem, f"write {owner}:{name}")
        elif len(others) > 1:
            problem = f"its {family} {name} is offered by {' and '.join(others[1:])} too, so the bare name is refused"
            qualified = " or ".join(f"{owner}:{name}" for owner in others)
            yield Finding(others[0], owners[others[0]], problem, f"write {qualified}, or block one by {BLOCK_LIST}")
