"""Discovery, with real distributions on `sys.path`."""

import sys

import pytest

from torchplug import Family
from torchplug.errors import PluginError
from torchplug.registry import discovery
from torchplug.registry.discovery import discover
from torchplug.registry.permissions import ALLOW_LIST, canonical_name

GOOD = ("losses", "good_loss", "nowhere:Loss")
HEADER = "from torchplug import Component, hookimpl\n"
METRIC = """
from torchplug import Metric, hookimpl

def gain(**changes):
    record = dict(name="gain", target="a:B", summary="x", kinds=frozenset({"binary"}), view="scores", direction="max")
    return Metric(**(record | changes))

@hookimpl
"""


def found(name):
    """The one record of a distribution."""
    (plugin,) = [plugin for plugin in discover() if plugin.distribution == name]
    return plugin


def test_a_good_plugin_is_recorded_with_its_provenance(distributions):
    module = distributions.offer("acme", GOOD, ("schedulers", "good_schedule", "nowhere:Schedule"), version="2.1")
    plugin = found("acme")
    assert (plugin.version, plugin.entry_point, plugin.status) == ("2.1", module, "loaded")
    assert plugin.hooks == ("torchplug_losses", "torchplug_schedulers")
    assert [(f, c.name) for f, c in plugin.components] == [
        (Family.LOSS, "good_loss"),
        (Family.SCHEDULER, "good_schedule"),
    ]
    assert plugin.error is None
    assert plugin.trouble is None
    assert plugin.seconds >= 0


def test_the_built_in_components_come_through_the_same_hooks():
    plugin = found("torchplug")
    assert plugin.status == "loaded"
    assert {family for family, _ in plugin.components} == set(Family)


def test_plugins_are_sorted_by_distribution(distributions):
    for name in ("zeta", "acme", "Mid_Name"):
        distributions.offer(name, GOOD)
    names = [plugin.distribution for plugin in discover()]
    assert names == sorted(names)
    assert "mid-name" in names


def test_hooks_may_be_generators_and_classes(distributions):
    distributions.add(
        "acme",
        """
        from torchplug import Component, hookimpl

        class Plugin:
            @hookimpl
            def torchplug_losses(self):
                yield Component("one", "nowhere:One", "first")
                yield Component("two", "nowhere:Two", "second")

        plugin = Plugin()
        """,
        module="acme_module",
    )
    info = distributions.folder / "acme-1.0.dist-info" / "entry_points.txt"
    info.write_text("[torchplug]\nacme = acme_module:plugin\n")
    assert [component.name for _, component in found("acme").components] == ["one", "two"]


BROKEN = {
    "raises at import": ("raise RuntimeError('no\\n  luck')", "import of bad_plugin failed: RuntimeError: no luck"),
    "exits at import": ("raise SystemExit(3)", "import of bad_plugin failed: SystemExit: 3"),
    "imports what is absent": ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "is no Python": ("def (", "import of bad_plugin failed: SyntaxError"),
    "raises in a hook": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    return [1 / 0]",
        "torchplug_losses failed: ZeroDivisionError: division by zero",
    ),
    "exits in a hook": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    raise SystemExit",
        "torchplug_losses failed: SystemExit",
    ),
    "misspells a hook": (
        HEADER + "@hookimpl\ndef torchplug_loses():\n    return []",
        "there is no hook torchplug_loses: did you mean torchplug_losses?",
    ),
    "invents a hook": (
        HEADER + "@hookimpl\ndef something_else():\n    return []",
        "there is no hook something_else: hooks are torchplug_models, torchplug_losses",
    ),
    "forgets the marker": (
        HEADER + "def torchplug_losses():\n    return []",
        "torchplug_losses is not marked with @torchplug.hookimpl",
    ),
    "implements nothing": ("x = 1", "it implements no hook"),
    "asks for arguments": (
        HEADER + "@hookimpl\ndef torchplug_losses(config):\n    return []",
        "its hooks cannot be registered: PluginValidationError",
    ),
    "returns nothing": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    pass",
        "torchplug_losses returned None, not a list of Component",
    ),
    "returns a number": (HEADER + "@hookimpl\ndef torchplug_losses():\n    return 3", "torchplug_losses failed"),
    "returns names": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    return ['huber']",
        "torchplug_losses returned 'huber', which is no torchplug.Component",
    ),
    "has a bad name": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    return [Component('Log-Cosh', 'a:B', 'x')]",
        "torchplug_losses returned the name 'Log-Cosh': use lower-case letters",
    ),
    "has a name that is no text": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    return [Component(3, 'a:B', 'x')]",
        "torchplug_losses returned the name 3",
    ),
    "has a bad target": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    return [Component('huber', 'a.B', 'x')]",
        "huber with the target 'a.B', which is no package.module:Class",
    ),
    "has a target that is a class": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    return [Component('huber', dict, 'x')]",
        "huber with the target <class 'dict'>",
    ),
    "has no summary": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    return [Component('huber', 'a:B', '')]",
        "huber with a summary that is not one line",
    ),
    "has strange needs": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    return [Component('huber', 'a:B', 'x', {'prox'})]",
        "huber with capabilities that are no frozenset",
    ),
    "offers a metric without its record": (
        HEADER + "@hookimpl\ndef torchplug_metrics():\n    return [Component('gain', 'a:B', 'x')]",
        "torchplug_metrics returned gain, which is no torchplug.Metric",
    ),
    "offers a metric for unknown losses": (
        METRIC + "def torchplug_metrics():\n    return [gain(kinds=frozenset({'ranking'}))]",
        "torchplug_metrics returned gain with kinds that are no frozenset of regression, binary, multiclass,",
    ),
    "offers a metric of an unknown view": (
        METRIC + "def torchplug_metrics():\n    return [gain(view='logits')]",
        "gain with the view 'logits', which is none of values, standardized, labels, scores,",
    ),
    "offers a metric without a direction": (
        METRIC + "def torchplug_metrics():\n    return [gain(direction='up')]",
        "gain with the direction 'up', which is none of min, max",
    ),
    "offers a metric under the loss's name": (
        METRIC + "def torchplug_metrics():\n    return [gain(name='loss')]",
        "torchplug_metrics returned the name loss, under which the loss itself is logged",
    ),
    "repeats a name": (
        HEADER + "@hookimpl\ndef torchplug_losses():\n    return [Component('huber', 'a:B', 'x')] * 2",
        "torchplug_losses returned huber twice",
    ),
    "has a repr that raises": (
        HEADER + "class R:\n    def __repr__(self):\n        raise OSError\n"
        "@hookimpl\ndef torchplug_losses():\n    return [R()]",
        "torchplug_losses returned a R, which is no torchplug.Component",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_recorded_and_the_rest_goes_on(distributions, case):
    source, message = BROKEN[case]
    distributions.add("bad", source, version="0.3")
    distributions.offer("good", GOOD)
    plugin = found("bad")
    assert plugin.status == "broken"
    assert plugin.version == "0.3"
    assert plugin.components == ()
    assert message in plugin.error
    assert "\n" not in plugin.error
    assert plugin.trouble == f"bad 0.3 is broken: {plugin.error}"
    assert found("good").status == "loaded"
    with pytest.raises(PluginError, match=r"^bad 0\.3 is broken: "):
        discover(strict=True)


def test_ctrl_c_is_not_a_plugins_fault(distributions):
    distributions.add("bad", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        discover()


def test_an_unreadable_entry_point_breaks_only_its_distribution(distributions):
    distributions.metadata("bad", entry_points="[torchplug]\nno equals sign\n")
    distributions.offer("good", GOOD)
    assert "entry_points.txt cannot be read" in found("bad").error
    assert found("good").status == "loaded"


def test_metadata_that_no_program_can_read_is_passed_over(distributions):
    distributions.metadata("bad")
    (distributions.folder / "bad-1.0.dist-info" / "entry_points.txt").write_bytes(b"[torchplug]\nx = \xff\xfe\n")
    distributions.metadata("nameless", entry_points="[torchplug]\nx = nowhere\n")
    (distributions.folder / "nameless-1.0.dist-info" / "METADATA").write_text("")
    assert not {"bad", "nameless"} & {plugin.distribution for plugin in discover()}


def test_a_slow_plugin_is_loaded_with_a_note(distributions, monkeypatch):
    hook = "import time\n@hookimpl\ndef torchplug_losses():\n    time.sleep(0.05)\n    return []"
    distributions.add("slow", HEADER + hook)
    monkeypatch.setattr(discovery, "SLOW_SECONDS", 0.04)
    plugin = found("slow")
    assert plugin.status == "loaded"
    assert "import heavy modules in targets, not in slow_plugin" in plugin.note
    with pytest.raises(PluginError, match=r"^slow 1\.0 took"):
        discover(strict=True)


def test_a_distribution_that_is_listed_twice_counts_once(distributions, tmp_path, monkeypatch):
    module = distributions.offer("acme", GOOD)
    elsewhere = tmp_path / "elsewhere"
    distributions.metadata("Acme", version="0.9", entry_points=f"[torchplug]\nacme = {module}\n", folder=elsewhere)
    monkeypatch.setattr(sys, "path", [*sys.path, str(elsewhere)])
    assert found("acme").version == "1.0"


def test_two_entry_points_of_one_distribution_may_not_repeat_a_name(distributions):
    distributions.offer("first", GOOD)
    distributions.offer("second", GOOD)
    distributions.metadata("acme", entry_points="[torchplug]\na = first_plugin\nb = second_plugin\n")
    first, second = [plugin for plugin in discover() if plugin.distribution == "acme"]
    assert first.status == "loaded"
    assert second.error == "its entry point second_plugin repeats the loss good_loss of another"


def test_two_distributions_may_have_the_same_name(distributions):
    distributions.offer("one", GOOD)
    distributions.offer("two", GOOD)
    assert found("one").status == found("two").status == "loaded"


def test_other_groups_are_left_alone(distributions):
    distributions.metadata("other", entry_points="[console_scripts]\ntorchplug-other = nowhere:main\n")
    assert "other" not in {plugin.distribution for plugin in discover()}


class TestAllowList:
    @pytest.fixture(autouse=True)
    def _install(self, distributions):
        distributions.offer("Allowed_One", GOOD)
        distributions.add("other", "raise RuntimeError('imported')")

    def status(self):
        return {plugin.distribution: plugin.status for plugin in discover()}

    def test_unset_allows_all(self):
        assert self.status()["allowed-one"] == "loaded"
        assert self.status()["other"] == "broken"

    @pytest.mark.parametrize("value", ["allowed-one", "ALLOWED.one,torchplug", " allowed_one , "])
    def test_names_are_normalised_and_others_never_imported(self, monkeypatch, value):
        monkeypatch.setenv(ALLOW_LIST, value)
        assert self.status()["allowed-one"] == "loaded"
        assert self.status()["other"] == "blocked"
        assert self.status()["torchplug"] == "loaded"
        assert "other_plugin" not in sys.modules
        discover(strict=True)

    def test_empty_allows_none_but_the_built_in(self, monkeypatch):
        monkeypatch.setenv(ALLOW_LIST, "")
        status = self.status()
        assert status.pop("torchplug") == "loaded"
        assert set(status.values()) == {"blocked"}
        assert found("other").trouble == "other 1.0 is blocked by TORCHPLUG_PLUGINS"

    def test_a_name_that_is_not_installed_is_missing(self, monkeypatch):
        monkeypatch.setenv(ALLOW_LIST, "allowed-one,absent")
        assert self.status()["absent"] == "missing"
        assert found("absent").trouble == "absent is named by TORCHPLUG_PLUGINS but is no installed plugin"
        with pytest.raises(PluginError, match="absent is named by"):
            discover(strict=True)


@pytest.mark.parametrize("name", ["a.b_c", "A-b-C", "a--b__c", "A_.-b.c"])
def test_names_are_compared_as_package_indexes_do(name):
    assert canonical_name(name) == "a-b-c"
