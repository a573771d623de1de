"""A component with its owner, and with checked parameters, ready to be built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torchplug.errors import ParameterError, TorchplugError
from torchplug.memory import is_lack_of_memory
from torchplug.registry.component import Capability, Component, Family, Spec
from torchplug.registry.failures import failure
from torchplug.registry.permissions import BUILTIN
from torchplug.registry.scheduling import attributed
from torchplug.registry.signatures import accepted_keywords, plain, positional_arguments


@dataclass(frozen=True)
class Entry:
    """A component together with the distribution that owns it."""

    family: Family
    component: Component
    distribution: str
    version: str

    @property
    def name(self) -> str:
        """The bare name, unique within family and distribution."""
        return self.component.name

    @property
    def qualified_name(self) -> str:
        """`distribution:name`, which always means this component."""
        return f"{self.distribution}:{self.name}"

    @property
    def builtin(self) -> bool:
        """Whether the bare name is reserved for this component."""
        return self.distribution == BUILTIN

    @property
    def label(self) -> str:
        """The name used in messages: bare if built in, else qualified, with the family."""
        return f"{self.name if self.builtin else self.qualified_name} ({self.family.value})"


@dataclass(frozen=True)
class Resolved:
    """A component with checked parameters, ready to be built.

    Args:
        entry: the component and its owner.
        parameters: the given ones, converted to their types; components among them as nested dicts
            of name and parameters.
        target: the class or function to call.
        nested: the components among the parameters, resolved.
        groups: an optimizer's rule of parameter groups, see `Component`.
        kinds: the types of what was built, by which a traceback's methods are attributed to the component.
    """

    entry: Entry
    parameters: dict[str, Any]
    target: Any
    nested: Mapping[str, Resolved] = field(default_factory=dict)
    groups: Callable[[list[tuple[str, Any]]], Any] | None = None
    kinds: set[type] = field(default_factory=set, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The component's bare name."""
        return self.entry.name

    @property
    def qualified_name(self) -> str:
        """The component's name with its distribution's."""
        return self.entry.qualified_name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the component supports or needs beyond its family's contract."""
        return self.entry.component.capabilities

    @property
    def asked(self) -> frozenset[str]:
        """The arguments that the core supplies because the target's signature names them."""
        return accepted_keywords(self.target).intersection(self.entry.family.supplied_by_keyword)

    @property
    def spec(self) -> Spec:
        """Return the qualified name and the given parameters as plain types, to be saved."""
        return Spec(self.qualified_name, plain(self.parameters))

    def build(self, *supplied: Any, **supplied_keywords: Any) -> Any:
        """Call the target with the core's arguments and the given parameters.

        Args:
            supplied: positional arguments, such as an optimizer's parameters.
            supplied_keywords: passed if the target's signature names them.

        Raises:
            ParameterError: if the target refuses a parameter.
            PluginError: if a plugin's target raises another exception, or gives a scheduler that is none.
        """
        accepted = accepted_keywords(self.target)
        keywords = {name: value for name, value in supplied_keywords.items() if name in accepted}
        factories = {name: resolved.build for name, resolved in self.nested.items()}
        try:
            given = {**self.parameters, **factories, **keywords}
            positional, by_name = positional_arguments(self.target, len(supplied), given)
            built = self.target(*supplied, *positional, **by_name)
        except (ValueError, TypeError) as error:
            raise ParameterError(f"{self.entry.label}: {' '.join(str(error).split())}") from error
        except Exception as error:
            if self.entry.builtin or isinstance(error, TorchplugError) or is_lack_of_memory(error):
                raise
            raise failure(self, error) from error
        self.kinds.add(type(built))
        return attributed(self, built) if self.entry.family is Family.SCHEDULER else built
