from pathlib import Path

from torchplug.processes.comparison import description, difference
from torchplug.registry.discovery import Plugin

SETTINGS = {
    "seed_everything": 0,
    "model": {"loss": {"class_path": "torchplug_losses.mse", "init_args": {}}},
    "data": {"source": "a.csv", "batch_size": 8},
    "tracking": {"mode": "auto"},
}


def described(settings=SETTINGS, data="0" * 64, sizes=None, plugins=(), checkpoint=None):
    return description(settings, data, sizes or {"train": 6, "validation": 2}, plugins, checkpoint)


def changed(**changes):
    return described({**SETTINGS, **changes})


def test_paths_and_tracking_may_differ():
    other = changed(data={"source": "/elsewhere/a.csv", "batch_size": 8}, tracking={"mode": "offline"})
    assert difference({0: described(), 1: other}) is None


def test_a_setting_is_named_with_both_values():
    other = changed(model={"loss": {"class_path": "torchplug_losses.l1", "init_args": {}}})
    assert difference({0: described(), 1: described(), 2: other}) == (
        "rank 2 differs from rank 0 in --model.loss: l1 instead of mse; "
        "start every rank with the same data, settings and packages"
    )


def test_a_setting_that_only_one_has_is_a_difference():
    assert "in --extra: 1 instead of nothing;" in str(difference({0: described(), 1: changed(extra=1)}))


def test_rows_come_before_what_follows_from_them():
    other = described(data="1" * 64, sizes={"train": 3, "validation": 1})
    assert "in its data: 3 train, 1 validation rows instead of 6 train, 2 validation rows, and 1 more;" in str(
        difference({0: described(), 1: other})
    )


def test_versions_of_plugins_and_contents_of_checkpoints_are_compared(tmp_path):
    def plugin(version):
        return Plugin("shapes", version, "loaded")

    assert "in the version of shapes: 2.0 (loaded) instead of 1.0 (loaded)" in str(
        difference({0: described(plugins=[plugin("1.0")]), 1: described(plugins=[plugin("2.0")])})
    )
    files = [Path(tmp_path / name) for name in ("a", "b", "c")]
    for file, content in zip(files, (b"1", b"2", b"1"), strict=True):
        file.write_bytes(content)
    one, two, same = (described(checkpoint=file) for file in files)
    assert difference({0: one, 1: same}) is None
    assert "in the content of its checkpoint" in str(difference({0: one, 1: two}))
