"""Tables as people have them: each with one awkwardness, fitted by a recipe to what the values mean."""

import gzip
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

FIT = ["fit", "--data.target", "y", "--data.split", "[1,0,0]", "--data.source"]
"""y = 2 x + 0.1 z and a little noise, in 40 rows."""

RNG = np.random.default_rng(0)
X = RNG.normal(size=40).round(3)
Z = RNG.integers(0, 100, 40)
Y = (2 * X + 0.1 * Z + RNG.normal(scale=0.1, size=40)).round(3)
ROWS = list(zip(X.tolist(), Z.tolist(), Y.tolist(), strict=True))


def table(header, rows, separator=",", end="\n"):
    return end.join(separator.join(map(str, row)) for row in [header, *rows]) + end


def with_word(word):
    return table(["x", "z", "y"], [(word if i % 8 == 0 else x, z, y) for i, (x, z, y) in enumerate(ROWS)])


def numbered(first):
    return [(first + i, *row) for i, row in enumerate(ROWS)]


def with_commas(value):
    return str(value).replace(".", ",")


NAMES = ["x", "z", "y"]
PLAIN = table(NAMES, ROWS)
SAME_LAW = {
    "plain": (PLAIN, []),
    "a blank line": (table(NAMES, ROWS[:20]) + "\n" + "".join(f"{x},{z},{y}\n" for x, z, y in ROWS[20:]), []),
    "spaces after commas": (table(NAMES, ROWS, ", "), []),
    "commas at the ends": (table([*NAMES, ""], [(*row, "") for row in ROWS]), []),
    "carriage returns": (table(NAMES, ROWS, end="\r"), []),
    "gzip": (gzip.compress(PLAIN.encode()), []),
    "UTF-16": (PLAIN.encode("utf-16"), []),
    "an index without a name": (table(["", *NAMES], numbered(0)), ["left out as an index"]),
    "rownames": (table(["rownames", *NAMES], numbered(1)), ["rownames"]),
    "R's header": (table(NAMES, numbered(1)), ["left out as an index"]),
    "identifiers": (table(["id", *NAMES], [(f"P{i:03d}", *row) for i, row in enumerate(ROWS)]), ["left out: id"]),
    "a comment": ("# made by hand\n" + PLAIN, ["begins with # above the header left out"]),
    "semicolons": (table(NAMES, ROWS, ";"), ["separator ';'"]),
    "tabs": (table(NAMES, ROWS, "\t"), [r"separator '\t'"]),
    "decimal commas": (
        table(NAMES, [map(with_commas, row) for row in ROWS], ";"),
        ["separator ';'", "decimal mark ','"],
    ),
    "currency": (table(NAMES, [(x, f"${z}", y) for x, z, y in ROWS]), ["z: numbers; $ left out"]),
    "percent": (table(NAMES, [(x, f"{z}%", y) for x, z, y in ROWS]), ["z: numbers; % left out"]),
    "an empty column": (table(["e", *NAMES], [("", *row) for row in ROWS]), ["left out: e"]),
}


@pytest.fixture
def fitted(run, tmp_path):
    """Write a table and fit it: exit status, notes, errors and the coefficients by feature."""

    def fit(content, *flags):
        (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        status, printed, errors = run([*FIT, "t.csv", *flags])
        notes = [line.removeprefix("note: ") for line in printed.splitlines() if line.startswith("note: ")]
        found = [*tmp_path.glob("runs/*/*/coefficients.csv")]
        coefficients = pl.read_csv(found[0]).select("feature", "coefficient").rows() if found else []
        return status, [note for note in notes if "nothing is validated" not in note], errors, dict(coefficients)

    return fit


@pytest.mark.parametrize("kind", SAME_LAW)
def test_the_law_is_found_with_the_notes_that_belong_to_it(fitted, kind):
    content, expected = SAME_LAW[kind]
    status, notes, errors, coefficients = fitted(content)
    assert (status, errors) == (0, "")
    assert len(notes) == len(expected)
    assert all(words in note for words, note in zip(expected, notes, strict=True))
    assert list(coefficients) == ["(intercept)", "x", "z"]
    solution = np.linalg.lstsq(np.column_stack([np.ones(40), X, Z]), Y, rcond=None)[0]
    np.testing.assert_allclose(list(coefficients.values()), solution, rtol=1e-5, atol=1e-5)


def test_separators_of_thousands_are_left_out(fitted):
    status, notes, _, coefficients = fitted(table(NAMES, [(x, f'"{z * 1000:,}"', y) for x, z, y in ROWS]))
    assert status == 0
    assert notes == ["z: numbers; separators of thousands left out"]
    assert coefficients["z"] == pytest.approx(1e-4, abs=1e-5)


@pytest.mark.parametrize("word", ["?", "-", "None", " "])
def test_words_for_missing_values_are_missing(fitted, word):
    status, notes, _, coefficients = fitted(with_word(word))
    assert status == 0
    assert len(notes) == 1
    assert "x 5" in notes[0]
    assert list(coefficients) == ["(intercept)", "x", "x=missing", "z"]


def test_further_words_are_said(fitted):
    status, _, errors, _ = fitted(with_word("n.d."))
    assert status == 2
    for part in ("'x'", "'n.d.'", "5 ×", "row 1", "--data.missing", "--data.categories"):
        assert part in errors
    status, _, _, coefficients = fitted(with_word("n.d."), "--data.missing", "[n.d.]")
    assert status == 0
    assert "x=missing" in coefficients
    status, _, _, coefficients = fitted(with_word("-999"), "--data.missing=[-999]")
    assert "x=missing" in coefficients


def test_one_word_among_numbers_is_refused_with_its_row_and_no_run(fitted, tmp_path):
    content = table(NAMES, [(x, "n.d." if i == 7 else z, y) for i, (x, z, y) in enumerate(ROWS)])
    status, _, errors, _ = fitted(content)
    assert status == 2
    assert errors.count("\n") == 1
    for part in ("'z'", "39", "'n.d.'", "row 8", "--data.missing"):
        assert part in errors
    assert not [*tmp_path.glob("runs/*/*")]


def test_a_bound_is_no_number(fitted):
    status, _, errors, _ = fitted(table(NAMES, [(x, "<5" if z < 5 else z, y) for x, z, y in ROWS]))
    assert status == 2
    assert "'<5'" in errors


def test_ragged_rows_are_refused_with_their_line(fitted):
    status, _, errors, _ = fitted(PLAIN + "1.0,2,3,4\n")
    assert status == 2
    assert "line 42 has 4 fields, and the header 3" in errors
    assert "line 42 has 2 fields" in fitted(PLAIN + "1.0,2\n")[2]


def test_leading_zeros_make_categories(fitted):
    rows = [(f"{100 + i % 4:05d}", x, y) for i, (x, _, y) in enumerate(ROWS)]
    status, notes, _, coefficients = fitted(table(["zip", "x", "y"], rows))
    assert status == 0
    assert notes == ["zip: categories, as some values have leading zeros"]
    assert list(coefficients) == ["(intercept)", "zip=00101", "zip=00102", "zip=00103", "x"]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%Y-%m-%d 00:00:00"])
def test_dates_are_numbers_of_days(fitted, form):
    days = [i * 7 % 40 for i in range(40)]
    rows = [((date(2020, 1, 3) + timedelta(days=d)).strftime(form), x, 2 * x + 0.5 * d) for d, x in zip(days, X)]  # noqa: B905
    status, notes, _, coefficients = fitted(table(["d", "x", "y"], rows))
    assert status == 0
    assert notes == ["d: days since 2020-01-03 (--data.dates)"]
    assert coefficients["d"] == pytest.approx(0.5, rel=1e-5)
    assert coefficients["x"] == pytest.approx(2, rel=1e-5)


def test_codes_of_a_new_file_are_those_of_training(fitted, run, tmp_path):
    effects = {"007": 5.0, "012": -5.0, "A1": 1.0, "B2": 2.0}
    status, _, _, coefficients = fitted(table(["g", "y"], [*effects.items()] * 10))
    assert status == 0
    assert list(coefficients) == ["(intercept)", "g=012", "g=A1", "g=B2"]
    (tmp_path / "new.csv").write_text("g\n007\n012\n")
    status, _, _ = run(["predict", "--ckpt_path", "last", "--data.source", "new.csv", "--output", "p.csv"])
    assert status == 0
    np.testing.assert_allclose(pl.read_csv(tmp_path / "p.csv")["y"].to_list(), [5, -5], atol=1e-5)


def test_labels_of_a_test_file_are_those_of_training(run, tmp_path):
    labels = ["007", "012", "A1"]
    rows = [(i % 3 + RNG.normal(scale=0.05), labels[i % 3]) for i in range(60)]
    (tmp_path / "t.csv").write_text(table(["x", "y"], rows))
    (tmp_path / "test.csv").write_text(table(["x", "y"], [(0.0, "007"), (1.0, "012"), (0.1, "007")]))
    recipe = "logistic_regression"
    fit = run([*FIT, "t.csv", "--data.test", "test.csv", "--model.loss", "cross_entropy"], recipe)
    assert (fit[0], fit[2]) == (0, "")
    status, printed, errors = run(["test", "--ckpt_path", "last"], recipe)
    assert (status, errors) == (0, "")
    assert "accuracy" in printed
