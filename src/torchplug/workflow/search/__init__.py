"""Search for hyper-parameters: `torchplug.search`."""

from torchplug.workflow.search.api import search
from torchplug.workflow.search.result import SearchResult

__all__ = ["SearchResult", "search"]
