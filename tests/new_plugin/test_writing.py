"""`torchplug new`: what it writes is a distribution that builds, installs, passes its tests and trains."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from torchplug import Family
from torchplug.cli import main
from torchplug.registry import registry

FAMILIES = [family.value for family in Family]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(*arguments):
    assert main(["new", *arguments]) == 0


def call(*arguments, **environment):
    """Run a program in the current directory; its output."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "WANDB_MODE": "disabled", **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class TestFiles:
    def test_one_family_by_default(self, folder, capsys):
        new("my-losses")
        written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert written == {
            f"my-losses/{name}"
            for name in (
                ".github/workflows/tests.yml", ".gitignore", "LICENSE", "README.md", "pyproject.toml",
                "src/my_losses/__init__.py", "src/my_losses/losses.py", "src/my_losses/py.typed",
                "tests/test_components.py", "tests/test_losses.py",
            )
        }  # fmt: skip
        printed = capsys.readouterr().out.splitlines()
        assert written <= set(printed)
        assert "    torchplug check my-losses" in printed

    def test_nothing_is_left_unfilled(self, folder):
        new("my-parts", "--family", *FAMILIES, "--author", "Ada Author")
        for path in (folder / "my-parts").rglob("*"):
            if path.is_file() and path.suffix != ".yml":
                assert "$" not in path.read_text(encoding="utf-8"), path
            if path.suffix == ".py":
                ast.parse(path.read_text(encoding="utf-8"))
        steps = yaml.safe_load((folder / "my-parts/.github/workflows/tests.yml").read_text())["jobs"]["tests"]["steps"]
        assert {"run": "torchplug check my-parts"} in steps
        assert "${{ matrix.python }}" in [step["with"]["python-version"] for step in steps if "with" in step]

    @pytest.mark.parametrize(
        ("license", "words"),
        [("MIT", "MIT License"), ("BSD-3-Clause", "BSD 3-Clause"), ("Apache-2.0", "Apache License")],
    )
    def test_license(self, folder, license, words):
        new("my-losses", "--license", license, "--author", "Ada Author")
        text = (folder / "my-losses/LICENSE").read_text()
        assert words in text
        assert "Ada Author" in text or license == "Apache-2.0"
        project = tomllib.loads((folder / "my-losses/pyproject.toml").read_text())["project"]
        assert project["license"] == license
        assert project["authors"] == [{"name": "Ada Author"}]

    def test_no_license(self, folder):
        new("my-losses", "--license", "none")
        assert not (folder / "my-losses/LICENSE").exists()
        assert "license" not in tomllib.loads((folder / "my-losses/pyproject.toml").read_text())["project"]

    def test_every_family_has_an_example(self, folder):
        new("my-parts", "--family", *FAMILIES)
        assert {path.stem for path in (folder / "my-parts/src/my_parts").glob("*.py")} == {
            "__init__", *(family.plural for family in Family)
        }  # fmt: skip

    def test_names_of_examples_are_free(self, folder):
        new("my-parts", "--family", *FAMILIES)
        names = {node.value for node in ast.walk(ast.parse((folder / "my-parts/src/my_parts/__init__.py").read_text()))
                 if isinstance(node, ast.Constant)}  # fmt: skip
        assert (
            len(names & {"wide_and_deep", "pseudo_huber", "sign_momentum", "smooth_l1", "polynomial", "max_error"}) == 6
        )
        assert not names & {entry.name for entry in registry().entries(None)}


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["My_Losses"], "no name for a distribution"),
            (["-x"], "required"),
            (["class"], "no name for a distribution"),
            (["json"], "installed: choose another name"),
            (["torch"], "installed: choose another name"),
            (["torchplug"], "installed: choose another name"),
            (["my-losses", "--family", "los"], "did you mean loss?"),
            (["my-losses", "--license", "GPL"], "invalid choice"),
            (["my-losses", "--author", 'a"b'], "author is text of one line"),
            (["my-losses", "--folder", "there"], "there exists"),
        ],
    )
    def test_in_one_line_with_nothing_written(self, folder, capsys, arguments, words):
        (folder / "there").mkdir()
        try:
            status = main(["new", *arguments])
        except SystemExit as stop:
            status = stop.code
        error = capsys.readouterr().err
        assert (status, error.count("\n")) == (2, 1)
        assert words in error
        assert [path.name for path in folder.iterdir()] == ["there"]

    def test_a_folder_that_cannot_be_written(self, folder, capsys):
        (folder / "file").write_text("")
        assert main(["new", "my-losses", "--folder", "file/my-losses"]) == 3
        assert capsys.readouterr().err.count("\n") == 1
        assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_new_plugin_builds_installs_passes_its_tests_and_trains(folder):
    new("my-parts", "--family", *FAMILIES)
    pip = ("-m", "pip", "--disable-pip-version-check")
    call(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "./my-parts")
    (wheel,) = Path("dist").glob("my_parts-0.1.0-*.whl")
    call(*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", "site", wheel)
    installed = {"PYTHONPATH": os.pathsep.join(["site", os.environ.get("PYTHONPATH", "")])}
    listed = call("-m", "torchplug", "list", "--filter", "my-parts", **installed)
    assert sorted(line.split()[0] for line in listed.splitlines()[1:]) == sorted(FAMILIES)
    call("-m", "pytest", "-q", "-p", "no:cacheprovider", "my-parts/tests", **installed)
    recipe = Path(__file__).parents[2] / "recipes/linear_regression.py"
    flags = "--model.loss pseudo_huber --model.optimizer sign_momentum --model.regularizers+=smooth_l1 "
    flags += (
        "--model.scheduler polynomial --model.metrics+=max_error --model.model wide_and_deep --trainer.max_epochs 2"
    )
    printed = call(recipe, "fit", *flags.split(), **installed)
    assert "max_error" in printed
