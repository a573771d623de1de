"""Detection of a CSV file's decimal mark."""

from __future__ import annotations

import polars as pl

from torchplug.errors import DataError
from torchplug.tables.names import shown
from torchplug.tables.numbers import Decimal

_DECIMALS = {
    ",": r"^[+-]?([0-9]*|[0-9]{1,3}(\.[0-9]{3})+),[0-9]+([eE][+-]?[0-9]+)?$",
    ".": r"^[+-]?([0-9]*|[0-9]{1,3}(,[0-9]{3})+)\.[0-9]+([eE][+-]?[0-9]+)?$",
}
"""Numbers with decimals, by their mark."""

_THOUSANDS = {",": r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$", ".": r"^[+-]?[1-9][0-9]{0,2}\.[0-9]{3}$"}
"""Those whose mark may be a separator of thousands."""

_WHOLE = r"^[+-]?([0-9]+|[0-9]{1,3}(,[0-9]{3}){2,}|[0-9]{1,3}(\.[0-9]{3}){2,})([eE][+-]?[0-9]+)?$"


def find_decimal(frame: pl.DataFrame, where: str) -> tuple[Decimal, tuple[str, ...]]:
    """Return the decimal mark of a file whose separator is not a comma, and a note if it is a comma.

    It is the comma if a numeric column requires it, as 1,5 does, and none requires the point. 1,234 requires neither:
    its comma may separate thousands.

    Args:
        frame: columns of text.
        where: the file's name, for messages.

    Raises:
        DataError: if all commas may be separators of thousands, and nothing else decides.
    """
    needed: dict[str, list[str]] = {",": [], ".": []}
    possible: dict[str, list[str]] = {",": [], ".": []}
    for column in frame.get_columns():
        text = column.drop_nulls().str.strip_chars()
        numbers = {mark: text.filter(text.str.contains(form)) for mark, form in _DECIMALS.items()}
        whole = text.str.contains(_WHOLE)
        if 2 * (len(numbers[","]) + len(numbers["."]) + int(whole.sum())) <= len(text):
            continue  # of words
        for mark, values in numbers.items():
            sure = values.filter(~values.str.contains(_THOUSANDS[mark]))
            if len(sure):
                needed[mark].append(f"'{shown(sure[0])}' in column '{shown(column.name)}'")
            elif len(values):
                possible[mark].append(f"'{shown(values[0])}' in column '{shown(column.name)}'")
    if needed[","]:
        if needed["."]:
            return ".", (f"{needed[','][0]} is text, as {needed['.'][0]} has a decimal point (--data.decimal)",)
        return ",", ("read with decimal mark ',' (--data.decimal)",)
    if possible[","] and not needed["."] and not possible["."]:
        raise DataError(
            f"{where}: the comma of {possible[','][0]} may be a decimal mark or a separator of thousands: give "
            "--data.decimal , or --data.decimal ."
        )
    return ".", ()
