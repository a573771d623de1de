"""A new plugin: a distribution that can be published, with an example of each family, its tests and its license."""

from torchplug.new_plugin.writing import LICENSES, write_plugin

__all__ = ["LICENSES", "write_plugin"]
