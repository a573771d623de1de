"""A component under test, with the arguments that the core would supply. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from torchplug.errors import PluginError
from torchplug.registry import Entry, Resolved, registry
from torchplug.registry.component import Capability, Family, Spec
from torchplug.testing.record import NotRun


class Subject:
    """A component under test. Subclasses, one for each family, make instances on small data of real shapes.

    Args:
        entry: the component and its owner.
        parameters: values of its parameters; those without a default need one.
    """

    def __init__(self, entry: Entry, parameters: Mapping[str, Any] | None = None) -> None:
        self.entry = entry
        self.given = dict(parameters or {})

    def __repr__(self) -> str:
        return f"{self.key}"

    @property
    def family(self) -> Family:
        """The component's family."""
        return self.entry.family

    @property
    def key(self) -> str:
        """Family and bare name, `loss:huber`, as declarations name the component."""
        return f"{self.family.value}:{self.entry.name}"

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it declares."""
        return self.entry.component.capabilities

    @property
    def target(self) -> Any:
        """Its class or function.

        Raises:
            NotRun: if it cannot be imported.
        """
        try:
            return registry().target(self.entry)
        except PluginError as error:
            raise NotRun("its target cannot be imported, see the check target_is_importable") from error

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters that users may set.

        Raises:
            NotRun: if they cannot be read.
        """
        try:
            return registry().parameters(self.entry)
        except PluginError as error:
            raise NotRun("its signature cannot be read, see the check target_is_importable") from error

    def resolved(self, **parameters: Any) -> Resolved:
        """Return the component with its parameters checked.

        Args:
            parameters: values beside, or in place of, the declared ones.

        Raises:
            NotRun: if a parameter without a default has no declared value.
        """
        given = {**self.given, **parameters}
        missing = [
            name for name, known in self.parameters.items() if known.default is Parameter.empty and name not in given
        ]
        if missing:
            where = f'[tool.torchplug.check.parameters."{self.key}"] of pyproject.toml'
            raise NotRun(f"needs a value of {', '.join(missing)}: declare it in {where}, or in parametrize_with_checks")
        return registry().resolve(self.family, Spec(self.entry.qualified_name, given))

    def build(self, **parameters: Any) -> Any:
        """Return an instance; an exception of the component's passes through."""
        return self.built(self.resolved(**parameters))

    def make(self, **parameters: Any) -> Any:
        """Return an instance.

        Raises:
            NotRun: if it cannot be built.
        """
        resolved = self.resolved(**parameters)
        try:
            return self.built(resolved)
        except Exception as error:
            raise NotRun("it cannot be built, see the check builds_from_its_defaults") from error

    def built(self, resolved: Resolved) -> Any:
        """Call the target with what the core supplies to its family."""
        return resolved.build()

    def answer(self, instance: Any) -> Any:
        """What the component gives, as tensors or numbers that can be compared; None if there is nothing."""
        return None
