"""Docstrings in the styles of numpydoc and reStructuredText say what Google's say."""

import pytest
import scipy.optimize
import sklearn.linear_model

from torchplug.registry.docstrings import read_docstring

GOOGLE = """
    Squared error.

        ℓ = e²

    Args:
        a: the thing (100% of it, %s {y}) in two lines
        b, c: others: both
        flag: no type

    Raises:
        ValueError: if a is negative.

    Reference: Kingma (2015), doi:1.
    """
NUMPY = """
    Squared error.

        ℓ = e²

    Parameters
    ----------
    a : float, default 1.0
        the thing (100% of it, %s {y})
        in two lines
    b, c : {int, float}
        others: both
    flag
        no type

    Raises
    ------
    ValueError
        if a is negative.

    References
    ----------
    .. [1] Kingma (2015), doi:1.
    """
REST = """
    Squared error.

        ℓ = e²

    :param float a: the thing (100% of it, %s {y})
        in two lines
    :type a: float
    :param b: others: both
    :param c: others: both
    :parameter flag: no type
    :raises ValueError: if a is negative.
    :rtype: float

    .. [Kingma] Kingma (2015), doi:1.
    """
ARGUMENTS = {
    "a": "the thing (100% of it, %s {y}) in two lines",
    "b": "others: both",
    "c": "others: both",
    "flag": "no type",
}


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST], ids=["google", "numpy", "rest"])
def test_each_style_is_read(docstring):
    read = read_docstring(docstring)
    assert (read.text, read.formula) == ("Squared error.", "ℓ = e²")
    assert read.arguments == ARGUMENTS
    assert " ".join(read.sections["Raises"].split()) == "ValueError: if a is negative."
    assert read.sections["Reference"] == "Kingma (2015), doi:1."


def test_docstrings_of_others_are_read():
    ridge = read_docstring(sklearn.linear_model.Ridge.__doc__)
    assert set(sklearn.linear_model.Ridge().get_params()) <= set(ridge.arguments)
    minimize = read_docstring(scipy.optimize.minimize.__doc__)
    assert {"fun", "x0", "jac", "bounds"} <= set(minimize.arguments)
    assert minimize.sections["Reference"].startswith("Nelder, J A")


def test_returns_and_notes_have_their_sections():
    read = read_docstring(
        "A.\n\nReturns\n-------\nfloat\n    it\n\nNotes\n-----\nDiffers.\n\nSee Also\n--------\nother : it"
    )
    assert read.sections["Returns"] == "float\n    it"
    assert "Differs." in read.sections["Note"]
    assert read.text == "A."


def test_a_word_above_dashes_in_prose_is_no_section():
    read = read_docstring("A table.\n\nname\n----\nvalue")
    assert read.arguments == {}
    assert "value" in read.text
