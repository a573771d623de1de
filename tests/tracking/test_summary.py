import io
import math

from rich.console import Console

from torchplug.tracking.run import Run
from torchplug.tracking.summary import print_summary

METRICS = {"train/loss": 0.5, "val/loss": 0.75, "val/rmse": 53.123456789, "val/r2": math.nan, "lr-SGD": 0.1}


def _printed(directory, **settings):
    stream = io.StringIO()
    print_summary(METRICS, directory, Console(file=stream, **settings))
    return stream.getvalue()


def test_splits_are_columns_and_metrics_rows(tmp_path):
    lines = _printed(Run(tmp_path / "mlp" / "run")).splitlines()
    cells = [
        [cell.strip() for cell in line.strip("│┃|").replace("┃", "│").replace("|", "│").split("│")] for line in lines
    ]
    assert lines[0].strip() == "mlp"
    assert ["metric", "train", "validation"] in cells
    assert ["loss", "0.5", "0.75"] in cells
    assert ["rmse", "", "53.1235"] in cells
    assert ["r2", "", "-"] in cells
    assert not any("lr" in line for line in lines[:-1])


def test_nothing_is_cut_or_coloured_where_no_terminal_reads_it(tmp_path):
    directory = Run(tmp_path / ("a" * 120) / ("b" * 120))
    printed = _printed(directory, width=40)
    assert "\x1b" not in printed
    assert "…" not in printed
    assert printed.splitlines()[-1].startswith("run: ")
    assert printed.splitlines()[-1].endswith(f"{'a' * 120}/{'b' * 120}")


def test_a_stream_without_unicode_gets_ascii(tmp_path):
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="ascii")
    print_summary(METRICS, Run(tmp_path), Console(file=stream))
    stream.flush()
    assert b"0.75" in buffer.getvalue()


def test_without_metrics_there_is_no_table(tmp_path):
    stream = io.StringIO()
    print_summary({}, Run(tmp_path / "mlp" / "run"), Console(file=stream))
    assert len(stream.getvalue().splitlines()) == 1
