"""Docstrings taken apart."""

import json

from torchplug import Family
from torchplug.registry import registry
from torchplug.registry.docstrings import describe, read_docstring, summarize

EXAMPLE = """Huber loss: quadratic near zero,
    linear in the tails.

        ℓ(z, y) = Σ_k  ½e²
          if |e| ≤ δ

    More about it.

        an aside

    Args:
        delta: δ > 0, where the tails
            begin.
        low, high (float, optional): bounds: both of them
        *rest: the rest

    Shape:
        scores (n, k) → (n,)

    Raises:
        ValueError: if delta is not positive.

    References: Huber (1964).
    Note: torch differs,
    as it often does.

    Afterword.
    """


def test_a_docstring_is_taken_apart():
    read = read_docstring(EXAMPLE)
    assert read.formula == "ℓ(z, y) = Σ_k  ½e²\n  if |e| ≤ δ"
    assert read.text.splitlines() == [
        "Huber loss: quadratic near zero,",
        "linear in the tails.",
        "",
        "More about it.",
        "",
        "    an aside",
        "",
        "Afterword.",
    ]
    assert read.arguments == {
        "delta": "δ > 0, where the tails begin.",
        "low": "bounds: both of them",
        "high": "bounds: both of them",
        "rest": "the rest",
    }
    assert read.sections == {
        "Shape": "scores (n, k) → (n,)",
        "Raises": "ValueError: if delta is not positive.",
        "Reference": "Huber (1964).",
        "Note": "torch differs,\nas it often does.",
    }


def test_a_bare_docstring_is_all_text():
    assert read_docstring("One line.").text == "One line."
    assert read_docstring(None).text == ""
    assert read_docstring(None).arguments == {}


def test_instructions_to_documentation_generators_are_left_out():
    read = read_docstring("Sentence.\n\n.. math::\n    x = y\n\nArgs:\n    x: one")
    assert (read.text, read.formula, read.arguments) == ("Sentence.", "x = y", {"x": "one"})


def test_description_of_a_component_is_plain_data(distributions):
    distributions.module(
        "acme_target",
        '''
        class Wrap:
            """Wraps another.

                y = x

            Note: it is not there.
            """

            def __init__(self, optimizer, rate: float, after=None, shape: tuple[int, ...] = (1, 2)):
                """Start.

                Args:
                    rate: r > 0.
                """
        ''',
    )
    distributions.offer("acme", ("schedulers", "wrap", "acme_target:Wrap"))
    entry = registry().find(Family.SCHEDULER, "wrap")
    description = describe(registry(), entry)
    assert summarize(entry).items() <= description.items()
    assert (description["description"], description["formula"]) == ("Wraps another.", "y = x")
    assert description["parameters"] == [
        {"name": "rate", "type": "float", "required": True, "default": None, "description": "r > 0.", "fixed": None},
        {"name": "after", "type": "any value", "required": False, "default": None, "description": "", "fixed": None},
        {
            "name": "shape",
            "type": "tuple[int, ...]",
            "required": False,
            "default": [1, 2],
            "description": "",
            "fixed": None,
        },
    ]
    assert json.loads(json.dumps(description)) == description


def test_a_nested_component_is_typed_by_its_family():
    parameters = describe(registry(), registry().find(Family.SCHEDULER, "warmup"))["parameters"]
    (after,) = [parameter for parameter in parameters if parameter["name"] == "after"]
    assert after["type"] == "scheduler | None"


def test_every_built_in_component_documents_its_parameters():
    for entry in registry().entries():
        if entry.builtin:
            description = describe(registry(), entry)
            assert description["description"], entry.label
            for parameter in description["parameters"]:
                assert parameter["description"], f"{entry.label}: {parameter['name']}"
