"""Components by name: what plugins offer, how it is discovered, and how a name with parameters is resolved."""

from torchplug.registry.failures import named_failures
from torchplug.registry.lookup import Registry, registry
from torchplug.registry.resolved import Entry, Resolved

__all__ = ["Entry", "Registry", "Resolved", "named_failures", "registry"]
