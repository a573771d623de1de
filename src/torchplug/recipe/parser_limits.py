"""The limits on YAML, applied to what jsonargparse reads by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import _loaders_dumpers as loaders
from jsonargparse import _paths as paths

from torchplug.bounded_yaml import read_text, refuse_unbounded


@contextmanager
def bounded_yaml() -> Iterator[None]:
    """Apply the limits to all that jsonargparse reads by itself: files, arguments and environment variables."""
    loader, read = loaders.yaml_default_loader, paths.Path.read_text
    loaders.yaml_default_loader = _bounded(loaders.get_yaml_default_loader())  # type: ignore[no-untyped-call]

    def bounded_read(self: Any) -> str:
        return read(self) if getattr(self, "_std_io", False) else read_text(self._absolute)

    paths.Path.read_text = bounded_read  # type: ignore[method-assign]
    try:
        yield
    finally:
        loaders.yaml_default_loader = loader
        paths.Path.read_text = read  # type: ignore[method-assign]


def _bounded(base: Any) -> Any:
    class Bounded(base):  # type: ignore[misc]
        """jsonargparse's loader, checking the limits first."""

        def __init__(self, stream: Any) -> None:
            refuse_unbounded(stream)
            super().__init__(stream)

        def get_single_data(self) -> Any:
            """Return the content; what Python cannot convert, such as a number of 5,000 digits, is no valid YAML."""
            try:
                return super().get_single_data()
            except (ValueError, OverflowError) as error:
                raise yaml.YAMLError(str(error)) from error

    return Bounded
