"""What a check of a model or of a fit has found, under a stable code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or a verdict.

    Args:
        code: stable, such as TPD003; `--ignore` mutes it.
        name: in a few words, such as `overfitting`.
        evidence: a sentence with numbers.
        remedies: what to do about it, the first one first, with the flag to change.
    """

    code: str
    name: str
    evidence: str
    remedies: tuple[str, ...] = ()
