"""Renews `catalogue.json` for the installed versions of the libraries; those that are not installed keep their part.

python plugins/torchplug-zoo/renew.py
"""

from __future__ import annotations

import json

from torchplug_zoo.catalogue import DATA, installed_version, offers, stored
from torchplug_zoo.libraries import LIBRARIES


def renewed() -> dict[str, object]:
    """Return the content of the data file for the installed versions."""
    content: dict[str, object] = dict(stored())
    for library in LIBRARIES:
        if present := installed_version(library):
            content[library.key] = {"version": present, "offers": offers(library, {})}
    return content


if __name__ == "__main__":
    DATA.write_text(json.dumps(renewed(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
