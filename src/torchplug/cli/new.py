"""`torchplug new`: the folder of a plugin that can be published."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from torchplug import __version__
from torchplug.cli.components import family_of
from torchplug.cli.output import Commands
from torchplug.new_plugin import LICENSES, write_plugin
from torchplug.terminal import printable


def add_to(commands: Commands) -> None:
    """Declare the subcommand."""
    new = commands.add_parser(
        "new",
        help="the folder of a plugin that can be published",
        description="Write a distribution with an example of each family, its tests, a README and a license.",
    )
    new.add_argument("name", help="of the distribution, such as my-losses")
    new.add_argument(
        "--family", nargs="+", default=["loss"], help="whose examples it has, such as loss optimizer (default: loss)"
    )
    new.add_argument("--license", choices=LICENSES, default="MIT", help="default: MIT")
    new.add_argument("--author", default="", help="the holder of the copyright")
    new.add_argument("--folder", type=Path, help="where to write it; by default NAME in the current directory")
    new.set_defaults(command=_new)


def _new(options: argparse.Namespace) -> str:
    families = [family for name in options.family if (family := family_of(name)) is not None]
    folder = options.folder or Path(options.name)
    written = write_plugin(
        options.name, families, folder, license=options.license, author=options.author, version=__version__
    )
    shown = printable(os.path.relpath(folder))
    lines = [printable(os.path.relpath(path)) for path in written]
    steps = [f"cd {shown}", "pip install -e '.[dev]'", f"torchplug check {options.name}", "pytest"]
    return "\n".join([*lines, "", "next:", *(f"    {step}" for step in steps)])
