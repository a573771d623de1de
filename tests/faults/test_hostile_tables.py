"""Tables that are broken, or meant to take all memory or time: one line each, before much is allocated."""

import gzip
import os
import random
import subprocess
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fault_tries import EVERYTHING, selected, tries
from small_fits import frame as small_frame
from small_fits import regression, trainer
from torchplug import ComponentModule, TabularData, use
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements, Preprocessing
from torchplug.tables import read

REQUEST = DataRequirements(kind="regression", loss="mse")

PATHS = {
    "over-long": "x" * 5000 + ".csv",
    "longer than a name": "x" * 300 + ".parquet",
    "with NUL": "a\0b.csv",
    "a directory": "folder.csv",
    "a FIFO": "fifo.csv",
    "a Parquet FIFO": "fifo.parquet",
    "a device": "/dev/zero",
    "a link to a device": "zero.csv",
    "a link to itself": "loop.csv",
    "in a file": "plain.csv/x.csv",
    "empty": "",
}


@pytest.mark.fault("a path where no table can be")
@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
@pytest.mark.parametrize("kind", PATHS)
def test_paths_are_refused_in_one_line(kind, stream):
    os.mkdir("folder.csv")
    for fifo in ("fifo.csv", "fifo.parquet"):
        os.mkfifo(fifo)
    os.symlink("/dev/zero", "zero.csv")
    os.symlink("loop.csv", "loop.csv")
    with open("plain.csv", "w", encoding="utf-8") as file:
        file.write("a,y\n1,2\n")
    with pytest.raises(DataError) as caught:
        TabularData(PATHS[kind], "y", stream=stream).prepare(REQUEST)
    _one_line(caught)
    if not stream:
        with pytest.raises(DataError):
            read(PATHS[kind])


BROKEN_CSV = {
    "NUL bytes": (b"a,y\n1,2\n\0,3\n", "NUL byte in line 3"),
    "UTF-16 cut off": ("a,y\n1,2\n".encode("utf-16")[:-1], "line 2 .* utf-16-le"),
    "UTF-8 with a byte of Latin-1": ("a,y\nü,1\n".encode() + b"\xfc,2\n", "is in UTF-8 up to line 3"),
    "bytes of no encoding": (b"a,y\n\x81,2\n", "line 2 .* --data.encoding"),
    "a workbook": (b"PK\x03\x04" + b"\0" * 100, "a zip archive"),
    "gzip cut off": (gzip.compress(b"a,y\n1,2\n")[:-5], "compressed with gzip, and damaged"),
    "a quote never closed in the header": (b'a,"y\n' + b"1,2\n" * 100_000, "a quote that is never closed"),
    "a quote never closed in a row": (b'a,y\n1,2\n"3,4\n' + b"1,2\n" * 1000, "cannot be read as CSV"),
    "a quote never closed in the last row": (b'a,y\n1,2\n3,"4\n', "line 3 opens a quote that is never closed"),
    "a name beyond all bounds": (b"x" * 200_000 + b",y\n1,2\n", "a name of more than 131072 characters"),
    "commas only": (b"," * 100_000 + b"\n1\n", "column 1 .* has no name"),
    "one name many times": (b"a," * 100_000 + b"y\n1\n", "several columns named a: names must differ"),
    "longer rows": (b"a,y\n1,2\n1,2,3\n", "line 3 has 3 fields, and the header 2"),
    "line feeds only": (b"\n\n\n", "cannot be read as CSV"),
    "no rows": (b"a,y", "has a header and no rows"),
}


@pytest.mark.fault("a broken CSV file")
@pytest.mark.parametrize("kind", BROKEN_CSV)
def test_broken_csv_is_refused_in_one_line(kind):
    content, message = BROKEN_CSV[kind]
    with open("t.csv", "wb") as file:
        file.write(content)
    with pytest.raises(DataError, match=message) as caught:
        read("t.csv")
    _one_line(caught)


def test_a_first_line_beyond_all_bounds_is_no_header(monkeypatch):
    monkeypatch.setattr("torchplug.tables.csv_dialect._SAMPLE_BYTES", 2**10)
    monkeypatch.setattr("torchplug.tables.csv_dialect._HEADER_BYTES", 2**10)
    with open("t.csv", "wb") as file:
        file.write(b"x" * 2**11)
    with pytest.raises(DataError, match="its first line has more than"):
        read("t.csv")


@pytest.mark.fault("line ends of other systems")
@pytest.mark.parametrize(
    "content", [b"a,y\r\n1,2\n3,4\r5,6\r\n", b"a,y\r1,2\r3,4\r5,6", b"\xef\xbb\xbfa,y\n1,2\n3,4\n5,6"]
)
def test_all_line_ends_end_lines(content):
    with open("t.csv", "wb") as file:
        file.write(content)
    assert read("t.csv").to_dict(as_series=False) == {"a": [1, 3, 5], "y": [2, 4, 6]}


def test_a_carriage_return_within_quotes_is_a_value():
    with open("t.csv", "wb") as file:
        file.write(b'a,y\n"u\rv",2\n')
    assert read("t.csv")["a"].to_list() == ["u\rv"]


@pytest.mark.fault("a broken CSV file")
def test_a_huge_field_stays_out_of_messages():
    with open("t.csv", "wb") as file:
        file.write(b"a,y\n" + b"".join(b"%d,%d\n" % (i % 7, i) for i in range(50)) + b"x" * 10_000_000 + b",1\n")
    data = TabularData("t.csv", "y", split=[1, 0, 0], handle_unknown="error", categories=["a"])
    data.prepare(REQUEST)
    other = pl.DataFrame({"a": ["z" * 10_000_000]})
    with pytest.raises(DataError, match="which the training split lacks") as caught:
        data.preprocessing.features(other)
    _one_line(caught)


BROKEN_PARQUET = {
    "a column without a name": lambda: pa.table([[1.0], [2.0]], names=["", "y"]),
    "a name twice": lambda: pa.table([[1.0], [2.0], [3.0]], names=["a", "a", "y"]),
    "no columns": lambda: pa.table({}),
    "no rows": lambda: pa.table({"a": pa.array([], pa.float64()), "y": pa.array([], pa.float64())}),
    "nested columns": lambda: pa.table({"a": [[1], [2], [3]] * 9, "y": list(range(27))}),
}


@pytest.mark.fault("a broken Parquet file")
@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
@pytest.mark.parametrize("kind", BROKEN_PARQUET)
def test_unusable_parquet_is_refused_in_one_line(kind, stream):
    pq.write_table(BROKEN_PARQUET[kind](), "t.parquet")
    with pytest.raises(DataError) as caught:
        TabularData("t.parquet", "y", stream=stream).prepare(REQUEST)
    _one_line(caught)


def _sound(groups):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "a": rng.normal(size=400),
            "b": rng.integers(0, 9, 400),
            "s": [("u", "v", "w" * 30)[i % 3] for i in range(400)],
            "d": [bool(i % 3) for i in range(400)],
            "y": rng.normal(size=400),
        }
    )
    pq.write_table(frame.to_arrow(), "sound.parquet", row_group_size=400 // groups)
    with open("sound.parquet", "rb") as file:
        return file.read()


@pytest.mark.fault("a truncated Parquet file")
@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_truncated_parquet_is_refused_in_one_line(stream):
    content = _sound(4)
    cuts = [content[:n] for n in (4, 12, len(content) // 2, len(content) - 1)] + [content[-n:] for n in (8, 100, 1000)]
    for cut in [*cuts, b"PARE" + content[4:-4] + b"PARE"]:
        with open("t.parquet", "wb") as file:
            file.write(cut)
        with pytest.raises(DataError) as caught:
            TabularData("t.parquet", "y", stream=stream).prepare(REQUEST)
        _one_line(caught)


_FLIPPED = """
import random, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
from torchplug import TabularData
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements
from torchplug.tables import read

rng, held = random.Random(int(sys.argv[1])), 0
contents = [open(name, "rb").read() for name in ("one.parquet", "four.parquet")]
for _ in range(int(sys.argv[2])):
    content = bytearray(rng.choice(contents))
    for _ in range(rng.choice([1, 1, 4])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.5:  # the footer, which is small
        content[-1 - rng.randrange(700)] ^= 1 << rng.randrange(8)
    open("t.parquet", "wb").write(content)
    uses = (
        lambda: read("t.parquet"),
        lambda: TabularData("t.parquet", "y").prepare(DataRequirements(kind="regression", loss="mse")),
        lambda: TabularData("t.parquet", "y", stream=True).prepare(DataRequirements(kind="regression", loss="mse")),
    )
    for use in uses:
        try:
            use()
        except DataError as error:
            assert len(str(error).splitlines()) == 1 and len(str(error)) < 2000, error
        held += 1
print("held", held)
"""


@pytest.mark.fault("flipped bits in a Parquet file")
@pytest.mark.parametrize("seed", tries(1, 20))
def test_flipped_bits_are_refused_or_read(seed):
    for name, groups in (("one.parquet", 1), ("four.parquet", 4)):
        content = _sound(groups)
        with open(name, "wb") as file:
            file.write(content)
    done = subprocess.run(
        [sys.executable, "-c", _FLIPPED, str(seed), "40"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "held 120"
    assert "panicked" not in done.stderr


# ---------------------------------------------------------------------- memory


def _texts_in_dictionary(name, as_categories):
    """10 GB of text as a value of a megabyte that recurs 10,000 times."""
    indices = pa.array((np.arange(10_000) == 1).astype(np.int32))
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 1_000_000, "y"]))
    # without Arrow's schema it is text, whose pages refer to a dictionary
    pq.write_table(
        pa.table({"s": column, "y": np.arange(10_000.0)}), name, compression="zstd", store_schema=as_categories
    )


def _texts_in_pages(name, as_categories):
    """2 GB of text that compresses well, 100 MB in a row group."""
    table = pa.table({"s": ["x" * 100_000_000], "y": [1.0]})
    with pq.ParquetWriter(name, table.schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(20):
            writer.write_table(table)


BOMBS = {
    "a dictionary": (_texts_in_dictionary, False),
    "categories": (_texts_in_dictionary, True),
    "pages": (_texts_in_pages, False),
}

_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from torchplug import TabularData
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements
from torchplug.tables import read

for use in (
    lambda: read("t.parquet"),
    lambda: TabularData("t.parquet", "y").prepare(DataRequirements(kind="regression", loss="mse")),
    lambda: TabularData("t.parquet", "y", stream=True).prepare(DataRequirements(kind="regression", loss="mse")),
):
    try:
        use()
    except DataError as error:
        print(error)
# getrusage counts what the process was before it ran this
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))
assert peak < 1 << 20, f"{peak} kB"
"""


@pytest.mark.fault("a small Parquet file that holds gigabytes of text")
@pytest.mark.parametrize("kind", selected(BOMBS, 1))
def test_bombs_are_refused_by_their_sizes(kind):
    write, as_categories = BOMBS[kind]
    write("t.parquet", as_categories)
    assert os.path.getsize("t.parquet") < 1_000_000
    done = subprocess.run([sys.executable, "-c", _LIMITED], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 3, lines
    assert all("t.parquet" in line and "GB of memory" in line and "are free" in line for line in lines), lines


@pytest.fixture
def memory(monkeypatch):
    """Say how much memory there is."""
    return lambda count: monkeypatch.setattr("torchplug.memory.available_memory", lambda: count)


@pytest.mark.fault("a table beyond memory")
def test_one_hot_features_beyond_memory_are_refused_before_they_are_made(memory):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"age": rng.normal(size=60_000), "person": [f"p{i % 20_000}" for i in range(60_000)]})
    memory(2 * 10**9)
    with pytest.raises(DataError) as caught:
        TabularData(frame.with_columns(y=pl.col("age") * 2), "y", split=[1, 0, 0], max_categories=None).prepare(REQUEST)
    _one_line(caught)
    for part in (
        "60000 rows of 20001 features",
        "categories of column 'person'",
        "4.8 GB",
        "2 GB are free",
        "max_categories",
    ):
        assert part in str(caught.value)


@pytest.mark.fault("a table beyond memory")
def test_features_of_arrays_beyond_memory_are_refused(memory):
    memory(10**6)
    with pytest.raises(DataError, match=r"2000 rows of 1000 features in 32 bits each would take 8 MB .* 1 MB are free"):
        TabularData((np.zeros((2000, 1000)), np.arange(2000.0))).prepare(REQUEST)


@pytest.mark.fault("a table beyond memory")
def test_files_beyond_memory_are_refused(memory):
    frame = pl.DataFrame({"a": np.arange(100_000.0), "s": ["x" * 50] * 100_000, "y": np.arange(100_000.0)})
    frame.write_csv("t.csv")
    frame.write_parquet("t.parquet")
    memory(10**6)
    for source, message in (("t.csv", "reading a CSV file"), ("t.parquet", "100000 rows of 3 columns")):
        with pytest.raises(DataError, match=message) as caught:
            read(source)
        _one_line(caught)
    frame.select("y", a="a").write_csv("t.csv")
    memory(4 * os.path.getsize("t.csv"))
    assert read("t.csv").shape == (100_000, 2)
    with open("t.csv", "w", encoding="utf-8") as file:
        file.write("a,b,c,d,y\n" + "1,,,,2\n" * 100_000)
    memory(2 * os.path.getsize("t.csv"))
    with pytest.raises(DataError, match="up to 100000 rows of 5 columns"):
        read("t.csv")


@pytest.mark.fault("a table beyond memory")
def test_a_row_group_beyond_memory_is_refused_when_streamed(memory):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({name: rng.normal(size=300_000) for name in "aby"})
    frame.write_parquet("large.parquet", row_group_size=300_000)
    frame.write_parquet("small.parquet", row_group_size=1000)
    memory(7_500_000)
    with pytest.raises(DataError, match="write the file with smaller row groups") as caught:
        TabularData("large.parquet", "y", stream=True).prepare(REQUEST)
    _one_line(caught)


@pytest.mark.fault("a table beyond memory")
def test_predictions_are_made_a_block_at_a_time(tmp_path, monkeypatch):
    module = ComponentModule(model=use("linear"), loss=use("mse"), optimizer=use("sgd", lr=0.1))
    trainer(tmp_path).fit(module, regression(impute="error"))
    table, sizes, encode = small_frame(), [], Preprocessing.features
    whole = module.predict(table)
    monkeypatch.setattr("torchplug.evaluation.split_evaluations._PREDICTION_NUMBERS", 30)
    monkeypatch.setattr(
        Preprocessing, "features", lambda self, rows, *a: sizes.append(len(rows)) or encode(self, rows, *a)
    )
    np.testing.assert_allclose(module.predict(table).to_numpy(), whole.to_numpy(), rtol=1e-5)
    assert max(sizes) == 8
    gaps = table.with_columns(b=pl.when(pl.int_range(60) % 30 == 20).then(None).otherwise("b"))
    with pytest.raises(DataError, match=r"b \(2, first in row 21\)"):
        module.predict(gaps)


# ---------------------------------------------------------------------- wide tables and many categories


def _wide(columns):
    rng = np.random.default_rng(0)
    return pl.DataFrame({**{f"c{j}": rng.normal(size=12) for j in range(columns - 1)}, "y": rng.normal(size=12)})


@pytest.mark.fault("a table of very many columns or categories")
@pytest.mark.parametrize("kind", selected(["csv", "parquet", "streamed", "pandas", "array", "polars"], 3))
def test_wide_tables_are_read_in_any_order_and_missing_columns_named_briefly(kind):
    frame = _wide(10_000 if EVERYTHING else 3000)
    sources = {
        "csv": lambda: frame.write_csv("t.csv") or "t.csv",
        "parquet": lambda: frame.write_parquet("t.parquet") or "t.parquet",
        "streamed": lambda: frame.write_parquet("t.parquet") or "t.parquet",
        "pandas": frame.to_pandas,
        "array": lambda: (frame.drop("y").to_numpy(), frame["y"].to_numpy()),
        "polars": lambda: frame,
    }
    data = TabularData(sources[kind](), "y", split=[1, 0, 0], stream=kind == "streamed")
    data.prepare(REQUEST)
    fitted = data.preprocessing
    if kind == "array":
        assert fitted.columns[-1] == f"x{frame.width - 2}"
        return
    order = random.Random(0).sample(frame.columns, frame.width)
    np.testing.assert_array_equal(fitted.features(frame.select(order)), fitted.features(frame))
    with pytest.raises(DataError, match=r"has no columns c0, c1, .* \(2000 in all\)") as caught:
        fitted.features(frame.select(frame.columns[2000:]))
    _one_line(caught)


@pytest.mark.fault("a table of very many columns or categories")
def test_a_hundred_thousand_categories_take_no_time(memory):
    frame = pl.DataFrame({"k": [f"person{i % 100_000}" for i in range(200_000)], "y": np.arange(200_000.0)})
    memory(10**10)
    with pytest.raises(DataError, match="200000 rows of 100000 features"):
        TabularData(frame, "y", split=[1, 0, 0], max_categories=None).prepare(REQUEST)
    bounded = TabularData(frame, "y", split=[1, 0, 0])
    bounded.prepare(REQUEST)
    assert len(bounded.preprocessing.feature_names) == 100
    frame.with_columns(k=pl.col("k").str.strip_suffix("0")).write_parquet("t.parquet")
    data = TabularData("t.parquet", "y", stream=True, max_categories=None)
    with pytest.raises(DataError, match="more than 65536 different values"):
        data.prepare(REQUEST)
    streamed = TabularData("t.parquet", "y", stream=True)
    streamed.prepare(REQUEST)
    assert len(streamed.preprocessing.feature_names) <= 100


@pytest.mark.fault("a table of very many columns or categories")
def test_many_categories_are_streamed_without_their_features():
    frame = pl.DataFrame({"k": [f"person{i % 40_000}" for i in range(160_000)], "y": np.arange(160_000.0)})
    frame.write_parquet("t.parquet")
    data = TabularData("t.parquet", "y", stream=True, scale="none", max_categories=None)
    data.prepare(REQUEST)
    assert len(data.preprocessing.feature_names) > 30_000
    np.testing.assert_array_equal(data.preprocessing.features(frame[:5]).sum(1), np.ones(5))


def _one_line(caught):
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 1500
