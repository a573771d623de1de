"""Names to classes and back."""

import pytest

from torchplug.component import Family, use
from torchplug.errors import UnknownComponentError
from torchplug.recipe.components import choices, class_spec, hidden, shown, spec_of
from torchplug.registry import registry


def test_every_name_has_a_class():
    for family in Family:
        names = {shown(f"{child.__module__}.{child.__name__}") for child in choices(family).__subclasses__()}
        entries = registry().entries(family)
        assert {entry.name if entry.builtin else entry.qualified_name for entry in entries} <= names


@pytest.mark.parametrize(
    ("family", "spec"),
    [
        (Family.OPTIMIZER, use("adam", lr=0.1)),
        (Family.LOSS, use("torchplug-robust:huber", delta=2.0)),
        (Family.SCHEDULER, use("warmup", epochs=2, after=use("cosine", min_lr=0.1))),
    ],
)
def test_specs_come_back(family, spec):
    assert spec_of(class_spec(family, spec)).name in (spec.name, spec.name.partition(":")[2])
    assert spec_of(class_spec(family, spec)).parameters == spec.parameters
    assert class_spec(family, spec) == class_spec(family, type(spec).of(spec.plain()))


def test_unknown_names_are_refused():
    with pytest.raises(UnknownComponentError, match="did you mean adam"):
        class_spec(Family.OPTIMIZER, use("adm"))


def test_only_known_qualified_names_are_replaced():
    text = "loss: torchplug-robust:huber, optimizer: torchplug:adam, path: C:x, other: a-package:thing, when: 12:30"
    assert hidden(text) == (
        "loss: torchplug_robust__huber, optimizer: adam, path: C:x, other: a-package:thing, when: 12:30"
    )


def test_a_penalty_that_is_added_to_the_recipes_own_is_noted(run):
    added = ["--model.regularizers+=l2", "--model.regularizers.coefficient", "0.01"]
    fit = ["fit", "--model.optimizer", "newton"]
    status, printed, _ = run([*fit, *added], "logistic_regression")
    assert status == 0
    (note,) = [line for line in printed.splitlines() if line.startswith("note: l2")]
    assert "l2 acts 2 times on map.weight, with coefficients 0.00146628 and 0.01, which add up" in note
    whole = note[note.index("'") + 1 : note.rindex("'")]
    status, printed, _ = run([*fit, "--model.regularizers", whole, "--print_config"], "logistic_regression")
    assert status == 0
    assert printed.count("class_path: l2") == 1
    assert "coefficient: 0.01" in printed


def test_penalties_on_different_parameters_are_not_noted(run):
    first = "{class_path: l2, init_args: {coefficient: 0.1, include: [map.weight]}}"
    second = "{class_path: l2, init_args: {coefficient: 0.2, include: [map.bias]}}"
    line = ["fit", "--model.optimizer", "newton", "--model.regularizers", f"[{first}, {second}]"]
    status, printed, _ = run(line, "logistic_regression")
    assert status == 0
    assert "note: l2" not in printed
