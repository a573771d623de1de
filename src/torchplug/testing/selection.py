"""Which components are checked. No torch."""

from __future__ import annotations

import difflib

from torchplug.errors import PluginError, UnknownComponentError
from torchplug.registry import Entry, registry
from torchplug.registry.permissions import canonical_name


def select(name: str) -> list[Entry]:
    """Return the components of a distribution, or those of a bare or qualified name in all families.

    Args:
        name: of a distribution or a component; what is both means the distribution.

    Raises:
        UnknownComponentError: if there is neither, with the nearest names.
        PluginError: if the distribution is broken or blocked, or offers nothing.
    """
    known, distribution = registry(), canonical_name(name)
    plugins = [plugin for plugin in known.plugins if plugin.distribution == distribution]
    if not plugins:
        try:
            return known.find_all(name)
        except UnknownComponentError as error:
            near = difflib.get_close_matches(distribution, {plugin.distribution for plugin in known.plugins}, n=1)
            if not near or ":" in name:
                raise
            raise UnknownComponentError(f"no distribution or component {name!r}: did you mean {near[0]}?") from error
    for plugin in plugins:
        if plugin.trouble:
            raise PluginError(f"{plugin.trouble}: nothing of it can be checked")
    owned = [entry for entry in known.entries() if entry.distribution == distribution]
    if not owned:
        raise PluginError(f"{distribution} offers no component: see `torchplug plugins`")
    return owned
