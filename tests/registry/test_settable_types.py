"""Parameters of every kind of type: what is settable is set by flag, file and Python, and what is not says why."""

from __future__ import annotations

import enum
import json
import textwrap

import pytest
import yaml

from torchplug import ComponentModule, Family, use
from torchplug.cli import main
from torchplug.errors import ParameterError, PluginError
from torchplug.registry import registry

HEAD = """
    import datetime, enum, math, os, torch
    from collections.abc import Callable
    from dataclasses import dataclass
    from pathlib import Path
    from typing import *
    from torchplug import Loss

    class Color(enum.Enum):
        RED = 1
        BLUE = 2

    @dataclass(frozen=True)
    class Options:
        x: int = 1

    class Named(TypedDict):
        x: int

    Length = NewType("Length", float)

    class Kept(Loss):
        '''Squared error that keeps what it was built with.'''
        kind = "regression"

        def __init__(self, {signature}):
            super().__init__()
            self.kept = dict(locals())

        def forward(self, scores, target):
            return (scores - target).square().sum(1)
"""

SETTABLE = {
    # signature: (type as it is shown, text, value that the target gets as text, what is written)
    "a: Color = Color.RED": ("RED | BLUE", "BLUE", "Color.BLUE", "BLUE"),
    "a: Color | None = None": ("RED | BLUE | None", "BLUE", "Color.BLUE", "BLUE"),
    "a: Literal[Color.RED, 'x'] = 'x'": ("RED | 'x'", "RED", "Color.RED", "RED"),
    "a: Path = Path('data')": ("path", "some/where", "some/where", "some/where"),
    "a: os.PathLike[str] | None = None": ("path | None", "here", "here", "here"),
    "a: Path | str = 'x'": ("str", "here", "here", "here"),
    "a: Literal['x', 'y'] = 'x'": ("'x' | 'y'", "y", "y", "y"),
    "a: list[Color] = [Color.RED]": (
        "list[RED | BLUE]",
        "[BLUE, RED]",
        "[<Color.BLUE: 2>, <Color.RED: 1>]",
        ["BLUE", "RED"],
    ),
    "a: float = 1.0, /, b: int = 2": ("float", "2.5", "2.5", 2.5),
    "a: Named = {'x': 1}": ("dict[str, any value]", "{x: 3}", "{'x': 3}", {"x": 3}),
    "a: Length = 1.0": ("float", "2.5", "2.5", 2.5),
    "a: int = 'auto'": ("int | 'auto'", "7", "7", 7),
    "a: Annotated[float, 'positive'] = 1.0": ("float", "2.5", "2.5", 2.5),
    "a: Callable[[float], float] | float = 1.0": ("float", "2.5", "2.5", 2.5),
}
FIXED = {
    "a: Options = Options()": "Options has no plain values",
    "a: Callable[[float], float] = math.sqrt": "callable[[float], float] has no plain values",
    "a: torch.dtype = torch.float32": "dtype has no plain values",
    "a: torch.Tensor = torch.ones(2)": "Tensor has no plain values",
    "a: complex = 1j": "complex has no plain values",
    "a: bytes = b'x'": "bytes has no plain values",
    "a: set[int] = {1}": "set[int] has no plain values",
    "a: datetime.date = datetime.date(2020, 1, 1)": "date has no plain values",
    "a: Any = object()": "is no plain value",
    "a=lambda x: x": "is no plain value",
    "a: 'NoSuchType' = 1.0": "its annotation 'NoSuchType' cannot be resolved (name 'NoSuchType' is not defined)",
    "a: 'math.NoSuchType' = 1.0": "its annotation 'math.NoSuchType' cannot be resolved (module 'math' has no attribute",
    "a: '1 +' = 1.0": "cannot be resolved",
}


@pytest.fixture
def offer(distributions):
    def offered(signature):
        distributions.module("acme_parts", textwrap.dedent(HEAD).replace("{signature}", signature))
        distributions.offer("acme", ("losses", "kept", "acme_parts:Kept"))
        return registry().find(Family.LOSS, "kept")

    return offered


def described(capsys):
    assert main(["describe", "kept", "--json"]) == 0
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)[0]["parameters"]}


def config(run, *arguments):
    status, out, errors = run(["fit", "--model.loss", "kept", *arguments, "--print_config"])
    assert status == 0, errors
    return out


@pytest.mark.parametrize("signature", SETTABLE)
def test_a_settable_parameter_is_shown_set_and_written(offer, capsys, signature):
    shown, text, kept, written = SETTABLE[signature]
    offer(signature)
    assert described(capsys)["a"]["type"] == shown
    assert described(capsys)["a"]["fixed"] is None
    resolved = registry().resolve(Family.LOSS, use("kept", a=text))
    assert str(resolved.build().kept["a"]) == kept
    assert resolved.spec.parameters == {"a": written}
    assert registry().resolve(Family.LOSS, resolved.spec.plain()) == resolved
    assert registry().resolve(Family.LOSS, "kept").build().kept["a"] is not None or "None" in shown


@pytest.mark.parametrize("signature", ["a: Color = Color.RED", "a: Path = Path('data')", "a: float = 1.0, /"])
def test_flags_files_and_python_give_the_same_value(offer, run, tmp_path, signature):
    offer(signature)
    _, text, kept, written = SETTABLE.get(signature, SETTABLE["a: float = 1.0, /, b: int = 2"])
    content = config(run, "--model.loss.a", text)
    assert yaml.safe_load(content)["model"]["loss"] == {"class_path": "acme:kept", "init_args": {"a": written}}
    (tmp_path / "again.yaml").write_text(content)
    assert config(run, "--config", "again.yaml") == content
    module = ComponentModule("linear", loss=use("kept", a=written), optimizer="sgd")
    assert str(module.loss.kept["a"]) == kept
    assert module.hparams["loss"]["parameters"] == {"a": written}


def test_a_member_may_be_given_as_itself(offer):
    entry = offer("a: Color = Color.RED")
    blue = registry().target(entry).__init__.__globals__["Color"].BLUE
    assert isinstance(blue, enum.Enum)
    assert registry().resolve(Family.LOSS, use("kept", a=blue)).spec.parameters == {"a": "BLUE"}
    with pytest.raises(ParameterError, match=r"a must be one of RED, BLUE, got 'GREEN'"):
        registry().resolve(Family.LOSS, use("kept", a="GREEN"))


@pytest.mark.parametrize("signature", FIXED)
def test_what_cannot_be_set_is_shown_with_the_reason_and_keeps_its_default(offer, run, capsys, signature):
    offer(f"{signature}, b: int = 2")
    shown = described(capsys)["a"]
    assert FIXED[signature] in shown["fixed"]
    assert main(["describe", "kept"]) == 0
    assert "Not settable by name: " in capsys.readouterr().out
    with pytest.raises(ParameterError, match=r"acme:kept \(loss\): a cannot be set by name: .*; it keeps its default"):
        registry().resolve(Family.LOSS, use("kept", a=1))
    assert registry().resolve(Family.LOSS, use("kept", b=3)).build().kept["b"] == 3
    assert yaml.safe_load(config(run))["model"]["loss"]["init_args"] == {"b": 2}


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (
            "a: Callable[[float], float]",
            "its parameter a is required, and cannot be set by name: callable[[float], float]",
        ),
        ("a: 'NoSuchType'", "required, and cannot be set by name: its annotation 'NoSuchType' cannot be resolved"),
    ],
)
def test_a_required_parameter_that_cannot_be_set_is_refused_with_the_reason(offer, signature, reason):
    offer(signature)
    with pytest.raises(PluginError) as caught:
        registry().resolve(Family.LOSS, "kept")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_only_type_checkers_import_are_found(distributions):
    distributions.module(
        "acme_typed",
        """
        from __future__ import annotations
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import collections.abc as abc
            from pathlib import Path as Where
            from nowhere import Nothing

        def typed(a: Iterable[int], b: Where, c: abc.Sequence[float] = (), d: Nothing = None): ...
        """,
    )
    distributions.offer("acme", ("losses", "typed", "acme_typed:typed"))
    entry = registry().find(Family.LOSS, "typed")
    assert list(registry().parameters(entry)) == ["a", "b", "c"]
    resolved = registry().resolve(Family.LOSS, use("typed", a=[1, 2], b="x", c=[1]))
    assert [str(value) for value in resolved.parameters.values()] == ["[1, 2]", "x", "[1.0]"]
    assert "name 'Nothing' is not defined" in registry().fixed(entry)["d"].reason


def test_torchs_own_scheduler_with_such_a_name_can_be_used(distributions):
    distributions.offer("acme", ("schedulers", "multi", "torch.optim.lr_scheduler:MultiStepLR"))
    assert registry().resolve(Family.SCHEDULER, use("multi", milestones=[3, 5])).parameters == {"milestones": [3, 5]}


@pytest.mark.parametrize(
    "name", ["help", "class_path", "init_args", "name", "parameters", "_a", "größe", "dict_kwargs"]
)
def test_parameters_of_any_name_are_set_by_flag_and_file(offer, run, tmp_path, name):
    offer(f"{name}: float = 1.0")
    content = config(run, f"--model.loss.init_args.{name}", "2.5")
    assert yaml.safe_load(content)["model"]["loss"] == {"class_path": "acme:kept", "init_args": {name: 2.5}}
    (tmp_path / "again.yaml").write_text(content, encoding="utf-8")
    assert config(run, "--config", "again.yaml") == content
