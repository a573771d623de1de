"""Checks of components: what the project asks of its own components, for the authors of plugins.

    from torchplug.testing import parametrize_with_checks


    @parametrize_with_checks("my-distribution")
    def test_contract(component, check):
        check(component)

`torchplug check my-distribution` runs the same checks. Both read what the project's pyproject.toml declares under
`[tool.torchplug.check]`: values of parameters, and expected failures. Nothing here imports torch, or pytest, before a
check runs.
"""

from torchplug.testing.declarations import Declarations, declared_in_projects
from torchplug.testing.parametrize import parametrize_with_checks
from torchplug.testing.record import Check, NotApplicable, NotRun
from torchplug.testing.runner import Outcome, Result, checks, run, run_all, subject, summary
from torchplug.testing.selection import select
from torchplug.testing.subject import Subject

__all__ = [
    "Check",
    "Declarations",
    "NotApplicable",
    "NotRun",
    "Outcome",
    "Result",
    "Subject",
    "checks",
    "declared_in_projects",
    "parametrize_with_checks",
    "run",
    "run_all",
    "select",
    "subject",
    "summary",
]
