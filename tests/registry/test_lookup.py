"""Names, conflicts, parameters and building, with real distributions on `sys.path`."""

import importlib
import sys

import numpy as np
import pytest

from torchplug import Capability, Family, Spec, use
from torchplug.errors import ConfigurationError, ParameterError, PluginError, UnknownComponentError
from torchplug.registry import Registry, Resolved, registry

LOSS, OPTIMIZER, SCHEDULER = Family.LOSS, Family.OPTIMIZER, Family.SCHEDULER

TARGETS = '''
from torch.optim.lr_scheduler import LRScheduler
from typing import Literal
from torchplug import Factory

class Recorder:
    """Keeps what it was built with."""

    def __init__(self, scale: float = 1.0, widths: list[int] = [], mode: Literal["a", "b"] = "a"):
        if scale < 0:
            raise ValueError("scale must not be negative,\\n got -1")
        if scale > 9:
            raise TypeError("scale is far off")
        self.kept = (scale, widths, mode)

def required(alpha: float, beta: int, gamma: int = 1):
    return (alpha, beta, gamma)

def optimizer(params, lr: float = 1.0):
    return ("optimizer", params, lr)

def wrapper(optimizer, *, total_steps: int = 0, within: Factory, other: Factory | None = None):
    return Made("wrapper", total_steps, within(optimizer).parts, other and other(optimizer).parts)

def leaf(optimizer, rate: float = 0.5):
    return Made("leaf", optimizer, rate)

class Made(LRScheduler):
    def __init__(self, *parts):
        self.parts = parts

constant = 3
'''


@pytest.fixture
def acme(distributions):
    """A distribution whose components keep what they were built with."""
    distributions.module("acme_targets", TARGETS)
    distributions.offer(
        "acme",
        ("losses", "recorder", "acme_targets:Recorder"),
        ("losses", "required", "acme_targets:required"),
        ("losses", "absent_module", "nowhere_at_all:Loss"),
        ("losses", "absent_class", "acme_targets:Nothing"),
        ("losses", "number", "acme_targets:constant"),
        ("optimizers", "keeper", "acme_targets:optimizer"),
        ("optimizers", "misfit", "acme_targets:required"),
        ("schedulers", "wrapper", "acme_targets:wrapper"),
        ("schedulers", "leaf", "acme_targets:leaf"),
        version="2.0",
    )
    return distributions


class TestNames:
    def test_entries_are_sorted_by_family_the_built_in_ones_first(self, acme):
        known = registry().entries()
        families = [list(Family).index(entry.family) for entry in known]
        assert families == sorted(families)
        losses = registry().entries(LOSS)
        assert {entry.family for entry in losses} == {LOSS}
        assert [entry.builtin for entry in losses] == sorted((entry.builtin for entry in losses), reverse=True)

    def test_a_unique_bare_name_and_the_qualified_name_mean_the_same(self, acme):
        entry = registry().find(LOSS, "recorder")
        assert entry == registry().find(LOSS, "acme:recorder") == registry().find(LOSS, "ACME:recorder")
        assert (entry.name, entry.qualified_name, entry.version) == ("recorder", "acme:recorder", "2.0")
        assert not entry.builtin
        assert registry().shortest_name(entry) == "recorder"

    def test_a_built_in_keeps_its_bare_name(self, distributions):
        distributions.offer("shadow", ("losses", "mse", "nowhere:Loss"))
        assert registry().find(LOSS, "mse").qualified_name == "torchplug:mse"
        assert registry().find(LOSS, "torchplug:mse").builtin
        shadow = registry().find(LOSS, "shadow:mse")
        assert not shadow.builtin
        assert registry().shortest_name(shadow) == "shadow:mse"

    def test_two_owners_of_a_name_are_both_named(self, distributions):
        distributions.offer("one", ("losses", "twin", "nowhere:Loss"))
        distributions.offer("two", ("losses", "twin", "nowhere:Loss"), ("optimizers", "twin", "nowhere:Optimizer"))
        with pytest.raises(UnknownComponentError, match="loss 'twin' is offered by one:twin and two:twin"):
            registry().find(LOSS, "twin")
        assert registry().find(LOSS, "two:twin").distribution == "two"
        assert registry().find(OPTIMIZER, "twin").distribution == "two"
        with pytest.raises(UnknownComponentError, match="use a qualified name"):
            registry().find_all("twin")

    def test_find_all_gives_every_family(self):
        assert [entry.family for entry in registry().find_all("l1")] == [LOSS, Family.REGULARIZER]
        with pytest.raises(UnknownComponentError, match="unknown component 'l3': did you mean"):
            registry().find_all("l3")

    @pytest.mark.parametrize(
        ("family", "name", "message"),
        [
            (OPTIMIZER, "adma", "unknown optimizer 'adma': did you mean adam"),
            (OPTIMIZER, "Adam", "did you mean adam"),
            (LOSS, "l2", "unknown loss 'l2': l2 is among the regularizers"),
            (LOSS, "recordr", "did you mean recorder?"),
            (LOSS, "acme:recordr", "did you mean acme:recorder?"),
            (LOSS, "other:recorder", r"did you mean acme:recorder\?; to install it: pip install other$"),
            (LOSS, "Other_One:thing", "to install it: pip install other-one"),
            (LOSS, "xyzzy", "`torchplug list loss` shows what there is"),
            (LOSS, "", "unknown loss ''"),
            (LOSS, ":", "unknown loss ':'"),
            (LOSS, "a\nb", r"unknown loss 'a\\nb'"),
        ],
    )
    def test_an_unknown_name_says_what_was_meant(self, acme, family, name, message):
        with pytest.raises(UnknownComponentError, match=message) as caught:
            registry().find(family, name)
        assert "\n" not in str(caught.value)

    def test_an_unknown_name_tells_of_plugins_that_did_not_load(self, distributions, monkeypatch):
        distributions.add("broken-one", "raise RuntimeError('no luck')", version="0.3")
        with pytest.raises(UnknownComponentError) as caught:
            registry().find(LOSS, "broken-one:thing")
        assert "broken-one 0.3 is broken: import of broken_one_plugin failed: RuntimeError: no luck" in str(
            caught.value
        )
        assert "pip install" not in str(caught.value)
        monkeypatch.setenv("TORCHPLUG_PLUGINS", "absent")
        registry.cache_clear()
        with pytest.raises(UnknownComponentError, match=r"broken-one 0\.3 is blocked by") as caught:
            registry().find(LOSS, "thing")
        assert "absent is named by TORCHPLUG_PLUGINS but is no installed plugin" in str(caught.value)
        with pytest.raises(UnknownComponentError, match="to install it: pip install absent"):
            registry().find(LOSS, "absent:thing")

    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            ("huber", "more losses: pip install torchplug-robust"),
            ("torchplug-robust:huber", "to install it: pip install torchplug-robust"),
        ],
    )
    def test_a_first_party_plugin_that_is_absent_is_named(self, name, remedy):
        without = Registry(plugin for plugin in registry().plugins if plugin.distribution != "torchplug-robust")
        with pytest.raises(UnknownComponentError, match=remedy):
            without.find(LOSS, name)
        with pytest.raises(UnknownComponentError) as caught:
            without.find(OPTIMIZER, "huber")
        assert "pip install" not in str(caught.value)

    def test_the_registry_is_made_once(self, acme):
        assert registry() is registry()
        first = registry()
        registry.cache_clear()
        assert registry() is not first


class TestTargets:
    def test_targets_are_imported_when_first_used(self, acme):
        entry = registry().find(LOSS, "recorder")
        assert "acme_targets" not in sys.modules
        assert registry().target(entry) is importlib.import_module("acme_targets").Recorder

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("absent_module", "nowhere_at_all:Loss cannot be imported: ModuleNotFoundError"),
            ("absent_class", "acme_targets:Nothing cannot be imported: AttributeError"),
            ("number", "acme_targets:constant is no class or function"),
        ],
    )
    def test_a_target_that_is_not_there_names_its_distribution(self, acme, name, message):
        with pytest.raises(PluginError, match=f"^acme 2.0 is broken: acme:{name} \\(loss\\): {message}"):
            registry().resolve(LOSS, name)

    def test_a_target_that_cannot_serve_names_its_distribution(self, acme):
        with pytest.raises(PluginError, match=r"acme 2\.0 is broken: .* must begin with params, and begins"):
            registry().parameters(registry().find(OPTIMIZER, "misfit"))


class TestParameters:
    def test_parameters_are_checked_and_converted(self, acme):
        resolved = registry().resolve(LOSS, use("recorder", scale=2, widths=(1, 2), mode="b"))
        assert resolved.parameters == {"scale": 2.0, "widths": [1, 2], "mode": "b"}
        assert type(resolved.parameters["scale"]) is float
        assert resolved.build().kept == (2.0, [1, 2], "b")
        assert (resolved.name, resolved.qualified_name, resolved.capabilities) == (
            "recorder",
            "acme:recorder",
            frozenset(),
        )

    def test_the_spec_to_save_is_plain_and_resolves_to_itself(self, acme):
        resolved = registry().resolve(LOSS, use("recorder", scale=np.float32(0.5), widths=np.arange(2)))
        assert resolved.spec == Spec("acme:recorder", {"scale": 0.5, "widths": [0, 1]})
        assert registry().resolve(LOSS, resolved.spec.plain()) == resolved

    def test_tuples_are_saved_as_lists(self):
        resolved = registry().resolve(OPTIMIZER, use("adam", betas=[0.8, 0.9]))
        assert resolved.parameters["betas"] == (0.8, 0.9)
        assert resolved.spec.parameters["betas"] == [0.8, 0.9]
        assert Capability.PROX in resolved.capabilities

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            (use("recorder", scal=1), "unknown parameter 'scal', did you mean scale? it takes scale, widths, mode"),
            (use("recorder", xyz=1), "unknown parameter 'xyz'; it takes scale, widths, mode"),
            (use("recorder", scale="abc"), "scale must be float, got 'abc'"),
            (use("recorder", scale=True), "scale must be float, got True"),
            (use("recorder", scale=None), "scale must be float, got None"),
            (use("recorder", mode="c"), "mode must be one of 'a', 'b', got 'c'"),
            (use("recorder", widths=[1.5]), "widths must be list[int], got [1.5]"),
        ],
    )
    def test_bad_parameters_are_refused_in_one_line(self, acme, spec, message):
        with pytest.raises(ParameterError) as caught:
            registry().resolve(LOSS, spec)
        assert str(caught.value) == f"acme:recorder (loss): {message}"

    def test_required_parameters_are_named(self, acme):
        with pytest.raises(ParameterError, match=r"^acme:required \(loss\): alpha, beta must be given$"):
            registry().resolve(LOSS, "required")
        assert registry().resolve(LOSS, use("required", alpha=1, beta=2)).build() == (1.0, 2, 1)

    def test_a_component_without_parameters_says_so(self):
        with pytest.raises(ParameterError, match=r"^constant \(scheduler\): unknown parameter 'x'; it takes none$"):
            registry().resolve(SCHEDULER, use("constant", x=1))

    @pytest.mark.parametrize(
        "value", [3, None, {}, {"name": "mse", "scale": 1}, {"name": "mse", "parameters": 3}, {"name": 3}, Spec(3)]
    )
    def test_what_is_no_spec_is_refused_whole(self, value):
        with pytest.raises(ConfigurationError, match=r"^loss: expected a name, use"):
            registry().resolve(LOSS, value)


class TestBuilding:
    @pytest.mark.parametrize("scale", [-1, 10])
    def test_a_constructors_refusal_is_one_line_that_names_the_component(self, acme, scale):
        resolved = registry().resolve(LOSS, use("recorder", scale=scale))
        with pytest.raises(ParameterError, match=r"^acme:recorder \(loss\): scale ") as caught:
            resolved.build()
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value.__cause__, ValueError | TypeError)

    def test_a_built_in_is_named_by_its_bare_name(self):
        with pytest.raises(ParameterError, match=r"^adam \(optimizer\): "):
            registry().resolve(OPTIMIZER, use("adam", lr=-1)).build([])

    def test_supplied_arguments_come_first(self, acme):
        assert registry().resolve(OPTIMIZER, use("keeper", lr=2)).build(["p"]) == ("optimizer", ["p"], 2.0)

    def test_supplied_keywords_are_passed_where_the_signature_names_them(self, acme):
        leaf = registry().resolve(SCHEDULER, "leaf")
        assert leaf.build("o", total_steps=7, steps_per_epoch=3).parts == ("leaf", "o", 0.5)
        wrapper = registry().resolve(SCHEDULER, use("wrapper", within="leaf"))
        assert wrapper.build("o", total_steps=7, steps_per_epoch=3).parts == ("wrapper", 7, ("leaf", "o", 0.5), None)

    @pytest.mark.parametrize("form", ["spec", "plain", "qualified"])
    def test_nested_components_are_resolved_and_built(self, acme, form):
        inner = use("leaf", rate=2)
        given = {"spec": inner, "plain": inner.plain(), "qualified": use("acme:leaf", rate=2.0)}[form]
        resolved = registry().resolve(SCHEDULER, use("wrapper", within=given, other="leaf"))
        assert resolved.build("o").parts == ("wrapper", 0, ("leaf", "o", 2.0), ("leaf", "o", 0.5))
        assert resolved.parameters["within"] == {"name": "acme:leaf", "parameters": {"rate": 2.0}}
        assert isinstance(resolved.nested["within"], Resolved)
        assert registry().resolve(SCHEDULER, resolved.spec.plain()).spec == resolved.spec

    def test_nested_mistakes_are_found_when_resolving(self, acme):
        with pytest.raises(UnknownComponentError, match="unknown scheduler 'recorder': recorder is among the losses"):
            registry().resolve(SCHEDULER, use("wrapper", within="recorder"))
        with pytest.raises(ParameterError, match=r"acme:leaf \(scheduler\): rate must be float, got 'x'"):
            registry().resolve(SCHEDULER, use("wrapper", within=use("wrapper", within=use("leaf", rate="x"))))
        with pytest.raises(ConfigurationError, match="scheduler: expected a name"):
            registry().resolve(SCHEDULER, use("wrapper", within=None))
        assert registry().resolve(SCHEDULER, use("wrapper", within="leaf", other=None)).nested.keys() == {"within"}


def test_every_component_that_is_installed_has_readable_parameters():
    for entry in registry().entries():
        assert registry().parameters(entry) is not None, entry.label
