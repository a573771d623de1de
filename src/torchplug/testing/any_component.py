"""Checks of every component, whatever its family: name, documentation, parameters, construction."""

from __future__ import annotations

import copy
import inspect
import io
import json
import pickle
import re
import warnings
from contextlib import redirect_stderr, redirect_stdout
from inspect import Parameter
from typing import Any, Literal, get_args

from torchplug.errors import ParameterError, PluginError
from torchplug.registry import registry
from torchplug.registry.annotations import annotation_of
from torchplug.registry.component import Family
from torchplug.registry.docstrings import describe
from torchplug.registry.foreign_code import one_line
from torchplug.registry.global_state import preserved
from torchplug.registry.signatures import is_factory, type_name
from torchplug.testing.compared import require_equal
from torchplug.testing.record import NotApplicable, NotRun, check, require
from torchplug.testing.subject import Subject

_EVERY = tuple(Family)
_WITH_SHAPES = (Family.MODEL, Family.LOSS, Family.REGULARIZER, Family.METRIC)
_WITH_REFERENCE = (Family.LOSS, Family.OPTIMIZER, Family.REGULARIZER, Family.MODEL)
_LONGEST_SUMMARY, _LONGEST_LINE = 80, 120
_RANGE = re.compile(
    r"[<>≤≥∈±]|\bin [\[({]|\b(at least|at most|positive|negative|between|from|finite|number of|any|units?|per|power|"
    r"fraction|probability|factor|integer|seconds|steps|epochs|whether)\b"
)
"""What says a number's range or unit."""


@check(*_EVERY)
def target_is_importable(subject: Subject) -> None:
    """The target can be imported, and its signature begins with what the core supplies."""
    registry().parameters(subject.entry)


@check(*_EVERY)
def summary_fits_a_table(subject: Subject) -> None:
    """The summary is one line of at most 80 characters."""
    summary = subject.entry.component.summary
    require(summary and len(summary.splitlines()) == 1, "the summary is no single line: say in one what it is")
    require(
        len(summary) <= _LONGEST_SUMMARY,
        f"the summary has {len(summary)} characters: use at most {_LONGEST_SUMMARY}",
    )


@check(*_EVERY)
def docstring_has_formula(subject: Subject) -> None:
    """The docstring says what the component is, and gives its formula as an indented block."""
    described = _described(subject)
    require(described["description"], "the docstring is empty: say in a sentence what it is")
    require(described["formula"], "the docstring has no formula: add it as an indented block below the first line")


@check(*_EVERY)
def docstring_has_parameters(subject: Subject) -> None:
    """The section Args explains every parameter."""
    missing = [known["name"] for known in _described(subject)["parameters"] if not known["description"]]
    require(not missing, f"the docstring's section Args lacks {', '.join(missing)}")


@check(*_EVERY)
def docstring_has_ranges(subject: Subject) -> None:
    """Args gives each number's range or unit."""
    numbers = [known for known in _described(subject)["parameters"] if re.search(r"\b(float|int)\b", known["type"])]
    missing = [known["name"] for known in numbers if known["description"] and not _RANGE.search(known["description"])]
    require(not missing, f"Args does not say the range or unit of {', '.join(missing)}: write for example `lr: α > 0`")


@check(*_WITH_SHAPES)
def docstring_has_shapes(subject: Subject) -> None:
    """The docstring gives the shapes of what the component takes and gives."""
    require(
        _described(subject)["shape"],
        "the docstring has no section Shape: write for example `Shape:` and `scores (n, k), target (n, k) → (n,)`",
    )


@check(*_EVERY)
def docstring_has_refusals(subject: Subject) -> None:
    """The docstring says which parameters are refused, where there are numbers."""
    numbers = _float_parameters(subject)
    if not numbers:
        raise NotApplicable("it has no parameter that is a float")
    require(
        _described(subject)["raises"],
        f"the docstring has no section Raises, and {', '.join(numbers)} cannot take every value: "
        "write for example `Raises:` and `ValueError: if lr is not positive.`",
    )


@check(*_WITH_REFERENCE)
def docstring_has_reference(subject: Subject) -> None:
    """The docstring names a source."""
    require(
        _described(subject)["reference"],
        "the docstring names no source: add `Reference: author (year), doi or address`",
    )


@check(*_EVERY)
def docstring_fits_a_page(subject: Subject) -> None:
    """The docstring's lines have at most 120 characters, and its description is plain data."""
    described = _described(subject)
    lines = (inspect.getdoc(subject.target) or "").splitlines()
    longest = max(map(len, lines), default=0)
    require(longest <= _LONGEST_LINE, f"a line of the docstring has {longest} characters: break it at {_LONGEST_LINE}")
    json.dumps(described)


@check(*_EVERY)
def defaults_have_declared_types(subject: Subject) -> None:
    """Every default is a value of its annotated type."""
    written = inspect.signature(subject.target).parameters
    for name, parameter in subject.parameters.items():
        default = parameter.default
        if not isinstance(default, bool | int | float | str):
            continue
        annotation = annotation_of(written[name], subject.target)
        widened = set(get_args(parameter.annotation)) - set(get_args(annotation))
        require(
            Literal[default] not in widened,
            f"{name} is annotated as {type_name(annotation)}, and its default {default!r} is none: widen the type",
        )


@check(*_EVERY)
def parameters_survive_a_checkpoint(subject: Subject) -> None:
    """Parameters are plain, and give the same component after they were saved as JSON and read."""
    defaults = {
        name: known.default
        for name, known in subject.parameters.items()
        if known.default not in (Parameter.empty, None) and not is_factory(known.annotation)
    }
    chosen = subject.resolved(**{**defaults, **subject.given})
    plain = json.loads(json.dumps(chosen.spec.plain()))
    by_key = {name: _keys_as_written(value) for name, value in plain["parameters"].items()}
    again = registry().resolve(subject.family, {"name": plain["name"], "parameters": by_key})
    require(again.parameters == chosen.parameters, f"parameters {chosen.parameters} are read as {again.parameters}")


@check(*_EVERY)
def builds_from_its_defaults(subject: Subject) -> None:
    """The component can be built from its declared parameters, twice."""
    subject.build()
    subject.build()


@check(*_EVERY)
def building_is_silent(subject: Subject) -> None:
    """Building prints nothing and warns of nothing."""
    subject.make()
    printed = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, redirect_stdout(printed), redirect_stderr(printed):
        warnings.simplefilter("always")
        subject.make()
    require(not printed.getvalue(), f"building it prints {printed.getvalue()[:80]!r}: leave the print out")
    require(not caught, f"building it warns: {one_line(caught[0].message) if caught else ''}")  # type: ignore[arg-type]


@check(*_EVERY)
def building_changes_no_global_state(subject: Subject) -> None:
    """Building changes no default of torch, warning filter, environment variable or the like; it may draw numbers."""
    with preserved() as changed:
        subject.make()
    shared = ", ".join(name for name in changed if not name.endswith("random generator"))
    require(not shared, f"building it changes {shared}, which the whole process shares: leave it out")


@check(*_EVERY)
def building_leaves_arguments_unchanged(subject: Subject) -> None:
    """Building changes none of the parameters that it is given, nor a mutable default."""
    resolved = subject.resolved()
    subject.make()
    given = copy.deepcopy(resolved.parameters)
    defaults = {name: copy.deepcopy(known.default) for name, known in inspect_parameters(subject).items()}
    try:
        subject.built(resolved)
    except Exception as error:
        raise AssertionError(f"it cannot be built a second time: {one_line(error)}") from error
    require(resolved.parameters == given, "building it changes its arguments: copy them first")
    for name, known in inspect_parameters(subject).items():
        require_equal(known.default, defaults[name], f"building it changes the default of {name}: copy it first")


@check(*_EVERY)
def nan_is_refused(subject: Subject) -> None:
    """No number may be NaN: the constructor refuses it with a ValueError that names the parameter."""
    numbers = _float_parameters(subject)
    if not numbers:
        raise NotApplicable("it has no parameter that is a float")
    subject.make()
    for name in numbers:
        try:
            subject.build(**{name: float("nan")})
        except ParameterError as error:
            require(name in str(error), f"NaN for {name} is refused without naming it: {error}")
        except Exception as error:
            raise AssertionError(f"NaN for {name} raises {one_line(error)}, and no ValueError of one line") from error
        else:
            raise AssertionError(
                f"NaN is accepted for {name}, and every weight becomes NaN: check the range, as by "
                f"torchplug.validate.positive({name}={name})"
            )


@check(*_EVERY)
def deep_copy_is_the_same(subject: Subject) -> None:
    """A deep copy gives the same and shares nothing."""
    _require_same_copy(subject, copy.deepcopy, "copy.deepcopy")


@check(*_EVERY)
def pickle_is_the_same(subject: Subject) -> None:
    """The component can be pickled, as processes that are spawned need it, and gives the same afterwards."""
    _require_same_copy(subject, lambda made: pickle.loads(pickle.dumps(made)), "pickle")


def inspect_parameters(subject: Subject) -> dict[str, Parameter]:
    """Return all parameters of the target's signature that have a default."""
    found = inspect.signature(subject.target).parameters
    return {name: known for name, known in found.items() if known.default is not Parameter.empty}


def _require_same_copy(subject: Subject, duplicate: Any, how: str) -> None:
    made = subject.make()
    try:
        other = duplicate(made)
    except Exception as error:
        raise AssertionError(f"{how} fails: {one_line(error)}: keep no lambda, lock, file or generator") from error
    try:
        expected = subject.answer(made)
    except NotRun:
        raise
    except Exception as error:
        raise NotRun(f"it cannot be used: {one_line(error)}") from error
    require_equal(subject.answer(other), expected, f"the result of {how} gives something else than the original")


def _described(subject: Subject) -> dict[str, Any]:
    try:
        return describe(registry(), subject.entry)
    except PluginError as error:
        raise NotRun("its signature cannot be read, see the check target_is_importable") from error


def _float_parameters(subject: Subject) -> list[str]:
    return [name for name, known in subject.parameters.items() if known.annotation in (float, float | None)]


def _keys_as_written(value: Any) -> Any:
    """JSON's texts as the integers that they were, as keys of a mapping."""
    if not isinstance(value, dict):
        return value
    return {int(key) if key.isdecimal() else key: item for key, item in value.items()}
