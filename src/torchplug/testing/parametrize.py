"""The checks as pytest's tests. pytest is imported where the decorator is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torchplug.testing.declarations import EXPECTED, PARAMETERS, declared, declared_in_projects
from torchplug.testing.record import Check
from torchplug.testing.runner import checks, run, subject
from torchplug.testing.selection import select
from torchplug.testing.subject import Subject

if TYPE_CHECKING:
    import pytest


def parametrize_with_checks(
    *names: str,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    expected_failed_checks: Mapping[str, Mapping[str, str]] | None = None,
    quick: bool = False,
) -> pytest.MarkDecorator:
    """Run a test for each component and each check that applies to it.

    Decorates a test of two arguments, `component` and `check`, which calls `check(component)`. Costly checks have the
    mark `slow`. A check that could not run, or has nothing to test, is skipped with the reason.

    Args:
        names: distributions, or components by bare or qualified name.
        parameters: component → values of its parameters; needed for those without a default.
        expected_failed_checks: component → check → why it fails. Strict: an expected failure that passes is a failure.
        quick: leave out the costly checks.

    Components are named by `family:name`, or by the name where that is unique. What the project's pyproject.toml
    declares under `[tool.torchplug.check]`, as for `torchplug check`, need not be repeated; arguments come before it.

    Raises:
        UnknownComponentError: for a name that is unknown.
        ConfigurationError: if something is declared for a component or a check that there is not.

    Example:
        >>> @parametrize_with_checks("torchplug", parameters={"scheduler:manual": {"table": {2: 0.01}}})
        ... def test_contract(component, check):
        ...     check(component)
    """
    import pytest

    entries = [entry for name in names for entry in select(name)]
    arguments = {PARAMETERS: parameters or {}, EXPECTED: expected_failed_checks or {}}
    found = declared_in_projects(entries) | declared(arguments, entries)
    chosen, cases = checks(quick=quick), []
    for entry in entries:
        component = subject(entry, found.parameters.get(entry))
        reasons = found.expected.get(entry, {})
        for check in chosen:
            reason = reasons.get(check.name)
            if check.why_not(component.family, component.capabilities) is not None and reason is None:
                continue
            marks = [pytest.mark.slow] if check.costly else []
            marks += [pytest.mark.xfail(reason=reason, strict=True)] if reason is not None else []
            ids = f"{entry.family.value}-{entry.name}-{check.name}"
            cases.append(pytest.param(component, _as_test(check), id=ids, marks=marks))
    return pytest.mark.parametrize(("component", "check"), cases)


def _as_test(check: Check) -> Callable[[Subject], None]:
    """A check as pytest calls it: a failure raises, what did not run is skipped."""

    def test(component: Subject) -> None:
        __tracebackhide__ = True
        import pytest

        result = run(check, component)
        if result.outcome in ("not run", "not applicable"):
            pytest.skip(f"{result.outcome}: {result.reason}")
        if result.outcome == "failed":
            raise AssertionError(f"{component.key}: {check.name}: {result.reason}") from result.error

    return test
