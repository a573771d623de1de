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
