"""Families, records and specs."""

import json

import pytest

from torchplug import Capability, Component, Family, Spec, use


@pytest.mark.parametrize(
    ("family", "hook"),
    [
        (Family.MODEL, "torchplug_models"),
        (Family.LOSS, "torchplug_losses"),
        (Family.OPTIMIZER, "torchplug_optimizers"),
        (Family.REGULARIZER, "torchplug_regularizers"),
        (Family.SCHEDULER, "torchplug_schedulers"),
    ],
)
def test_each_family_has_a_hook(family, hook):
    assert family.hook == hook
    assert isinstance(family.supplied, tuple)


def test_component_is_a_hashable_record():
    record = Component("adam", "package.module:Adam", "one line", frozenset({Capability.PROX}))
    assert record == Component("adam", "package.module:Adam", "one line", frozenset({Capability.PROX}))
    assert len({record, record}) == 1


def test_use_takes_any_parameter_name():
    assert use("x", name="a", family="b") == Spec("x", {"name": "a", "family": "b"})


def test_plain_nests_specs_and_reads_back_from_json():
    spec = use("warmup", after=use("cosine", min_lr=0.1), betas=(0.9, 0.99), table={1: [use("x")]})
    plain = spec.plain()
    assert plain["parameters"]["after"] == {"name": "cosine", "parameters": {"min_lr": 0.1}}
    assert plain["parameters"]["betas"] == [0.9, 0.99]
    assert plain["parameters"]["table"] == {1: [{"name": "x", "parameters": {}}]}
    json.dumps(plain)
    assert Spec.of(plain).plain() == plain


def test_spec_of_each_form():
    assert Spec.of("adam") == Spec("adam", {})
    assert Spec.of({"name": "adam"}) == Spec("adam", {})
    assert Spec.of({"name": "adam", "parameters": None}) == Spec("adam", {})
    spec = use("adam", lr=1.0)
    assert Spec.of(spec) is spec
