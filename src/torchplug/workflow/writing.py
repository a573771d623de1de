"""What every method of the working method writes into its run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchplug.tracking.run import Run

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Return settings as YAML, in their order."""
    text: str = yaml.dump(dict(settings), Dumper=_DUMPER, sort_keys=False, allow_unicode=True)
    return text


def write_method(run: Run, settings: Mapping[str, Any], origins: Mapping[str, Any]) -> None:
    """Write config.yaml and provenance.json.

    Args:
        run: the run directory.
        settings: all of them, those of the method first.
        origins: of `provenance`.
    """
    run.write_config(as_yaml(settings))
    run.write_provenance(origins)
