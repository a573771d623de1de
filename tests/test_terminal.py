import io

import pytest

from torchplug.terminal import one_line, printable, shortened


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\x07", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\u2028", "\udcff"]
)
def test_control_characters_are_escaped(character):
    assert printable(f"a{character}b").isascii()
    assert printable(f"a{character}b", lines=True).isprintable()


def test_ordinary_text_stays():
    text = "größe – λ ∑ 漢字 🙂"
    assert printable(text) == text


def test_newlines():
    assert printable("a\nb") == "a\\nb"
    assert printable("a\nb", lines=True) == "a\nb"
    assert one_line("a\n  b\tc\x1b") == "a b c\\x1b"


def test_long_text_loses_its_middle():
    assert shortened("x" * 2000) == "x" * 2000
    assert len(shortened("x" * 100_000)) < 2100


def test_replaced_streams_are_left_alone(monkeypatch):
    import sys

    from torchplug.terminal import protect_streams

    replaced = io.StringIO()
    monkeypatch.setattr(sys, "stdout", replaced)
    protect_streams()
    assert sys.stdout is replaced
