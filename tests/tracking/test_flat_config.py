from datetime import timedelta
from pathlib import Path

from torchplug.registry.component import use
from torchplug.tracking.flat_config import flat_config


def test_nesting_becomes_names_with_slashes():
    assert flat_config({"a": {"b": {"c": 1}, "d": None}, "seed": 3}) == {"a/b/c": 1, "a/d": None, "seed": 3}


def test_components_of_both_forms_stand_at_their_own_name():
    spec = use("warmup", steps=5, after=use("cosine", minimum=0.0)).plain()
    by_class = {"class_path": "adam", "init_args": {"lr": 0.1, "betas": [0.9, 0.99]}}
    assert flat_config({"scheduler": spec, "optimizer": by_class, "loss": {"name": "mse"}}) == {
        "scheduler": "warmup",
        "scheduler/steps": 5,
        "scheduler/after": "cosine",
        "scheduler/after/minimum": 0.0,
        "optimizer": "adam",
        "optimizer/lr": 0.1,
        "optimizer/betas": [0.9, 0.99],
        "loss": "mse",
    }


def test_a_mapping_that_only_looks_like_a_component_is_flattened_like_any_other():
    assert flat_config({"tracking": {"name": "x", "tags": []}}) == {"tracking/name": "x", "tracking/tags": []}


def test_lists_of_components_are_numbered_and_lists_of_values_stay():
    assert flat_config({"r": [{"name": "l2", "parameters": {"coefficient": 0.1}}, {"name": "l1"}], "h": (4, 5)}) == {
        "r/0": "l2",
        "r/0/coefficient": 0.1,
        "r/1": "l1",
        "h": [4, 5],
    }


def test_what_is_no_plain_value_is_shown_as_text():
    assert flat_config({"p": Path("a/b"), "t": [timedelta(seconds=1)]}) == {"p": "a/b", "t": ["0:00:01"]}
