"""The project's own components; what other libraries have is tested by torchplug-zoo."""

from torchplug.registry import registry


def own_components(family):
    """The components of a family, of torchplug and its first-party plugins."""
    return [entry for entry in registry().entries(family) if entry.distribution != "torchplug-zoo"]
