"""CSV tables as people's programs save them."""

import codecs
import csv
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcx.data.reading import parse_fold
from bcx.data.tables import (
    MOST_BYTES,
    MOST_COLUMNS,
    MOST_IN_A_ROW,
    MOST_ROWS,
    as_meant,
    decimal,
    harmless,
    read_columns,
    read_table,
)
from bcx.errors import ConfigError, DataError

LAYOUT = "a table with the columns file and label"
ROWS = [
    {"file": "größe 1.png", "label": "benign", "note": 'she said "no"'},
    {"file": "a, b; c.png", "label": "malignant", "note": "two\nlines"},
    {"file": "c.png", "label": "normal", "note": ""},
]


def read(path, others=(), **more):
    return read_table(path, ("file", "label"), others, layout=LAYOUT, **more)


def written(rows, delimiter=",", end="\n", quoting=csv.QUOTE_MINIMAL) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]


@pytest.mark.parametrize("delimiter", list(",;\t"))
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("end", "quoting"),
    [("\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)],
)
def test_every_dialect_reads_the_same(tmp_path, delimiter, end, encoding, quoting):
    path = tmp_path / "scans.csv"
    path.write_bytes(written(ROWS, delimiter, end, quoting).encode(encoding))
    table = read(path)
    assert table.columns == ["file", "label", "note"]
    assert [row for _, row in table.rows] == ROWS
    assert [line for line, _ in table.rows] == [2, 3, 5]


def test_utf_16_with_the_big_end_first_has_a_mark_too(tmp_path):
    (tmp_path / "scans.csv").write_bytes(codecs.BOM_UTF16_BE + written(ROWS).encode("utf-16-be"))
    assert [row for _, row in read(tmp_path / "scans.csv").rows] == ROWS


def test_a_first_line_that_names_the_separator_is_no_row(tmp_path):
    (tmp_path / "scans.csv").write_text("sep=|\n" + written(ROWS, "|"), "utf-8")
    table = read(tmp_path / "scans.csv")
    assert [row for _, row in table.rows] == ROWS
    assert [line for line, _ in table.rows] == [3, 4, 6]


def test_the_columns_tell_the_separator_not_how_often_a_sign_comes(tmp_path):
    (tmp_path / "scans.csv").write_text("file;label;x,y,z,u,v,w\na,b.png;benign;1,2,3,4\n")
    assert read(tmp_path / "scans.csv").rows == [(2, {"file": "a,b.png", "label": "benign", "x,y,z,u,v,w": "1,2,3,4"})]


def test_known_columns_are_found_in_any_case_and_empty_ones_at_the_end_are_passed_over(tmp_path):
    (tmp_path / "scans.csv").write_text(
        "File;LABEL;Group;;\na.png;benign;;;\nb.png;benign\n;;;;\n\nc.png;normal;anna\n"
    )
    table = read(tmp_path / "scans.csv", ("group",))
    assert table.columns == ["file", "label", "group"]
    assert [(line, row["file"], row["group"]) for line, row in table.rows] == [
        (2, "a.png", ""), (3, "b.png", ""), (6, "c.png", "anna"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'file', 'label'"),
        ("file;name\na;b\n", "has no column 'label'; its first line is 'file;name'"),
        ("file,label\na.png,benign,more\n", "Line 2 .* 'more' stands beyond"),
        ("file,label\n\n\na.png\n", "Line 4 .* there is none for 'label'"),
        ("file,label,group,Group\n", "column 'group' twice"),
        ('file,label\na.png,benign\n"b.png,benign\nc.png,benign\n', "from line 3 on"),
        ("file,label\na.png\0,benign\n", "it is no text"),
        (b"file,label\n\x81\xff.png,benign\n", "cannot be read as a table"),
        (bytes(range(256)) * 20, "cannot be read as a table"),
    ],
)
def test_what_does_not_fit_is_named_with_its_line_and_column(tmp_path, text, said):
    (tmp_path / "scans.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=said):
        read(tmp_path / "scans.csv", ("group",))


def test_the_error_is_of_the_kind_that_was_asked_for(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(ConfigError, match="cannot be read as a table"):
            read(path, error=ConfigError)


def test_a_file_that_is_no_table_by_its_size_is_not_read(tmp_path):
    with (tmp_path / "scans.csv").open("wb") as handle:
        handle.truncate(MOST_BYTES + 1)
    with pytest.raises(DataError, match="more than 100 MB"):
        read(tmp_path / "scans.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label" + "," * (MOST_COLUMNS + 1), "more than 1,000 cells"),
        ("file,label\n" + "x" * (MOST_IN_A_ROW + 1), "more than 1,000,000 characters"),
        ('"file\n",' * (MOST_IN_A_ROW // 8), "more than 1,000,000 characters|more than 1,000 cells"),
        ("file,label\n" + "\n" * (MOST_ROWS + 1), "more than 500,000 rows"),
        ('sep="\nfile"label\n', "has no column|cannot be read"),
        ("sep=\r\nfile,label\n", "has no column|cannot be read"),
    ],
    ids=["columns", "a long row", "a row over many lines", "rows", "a quote parts cells", "a line end parts cells"],
)
def test_what_is_too_large_or_too_odd_for_a_table_is_refused(tmp_path, text, said):
    (tmp_path / "scans.csv").write_text(text, newline="")
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path / "scans.csv")
    assert len(str(caught.value)) < 1000


def test_columns_have_values_of_their_kind(tmp_path):
    (tmp_path / "t.csv").write_text("n,x,w\n1,0.5,a\n-2,1e3,b\n")
    kinds = {"w": str, "n": np.int64, "x": decimal}
    assert read_columns(tmp_path / "t.csv", kinds, layout="") == {"w": ["a", "b"], "n": [1, -2], "x": [0.5, 1000.0]}
    for wrong in ("x", "1.5", "9" * 30, "9" * 5000, ""):
        (tmp_path / "t.csv").write_text(f"n,x,w\n{wrong},0,a\n")
        with pytest.raises(DataError, match=r"Line 2 .* in the column 'n'"):
            read_columns(tmp_path / "t.csv", kinds, layout="")


@pytest.mark.parametrize("cell", ["=1+1", "+a", "-b.png", "@c", "\tx", "plain", "'quoted", "", "a=b"])
def test_a_formula_is_made_harmless_and_meant_again(cell):
    assert as_meant(harmless(cell)) == cell
    assert not harmless(cell).startswith(("=", "+", "-", "@", "\t"))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\x85\u2028\u2029\ufeff"), max_size=12).map(
    str.strip
)


@given(st.lists(st.tuples(CELLS.filter(bool), CELLS), min_size=1, max_size=5), st.sampled_from(",;\t"))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(tmp_path, pairs, delimiter):
    rows = [{"file": file, "label": label} for file, label in pairs]
    (tmp_path / "scans.csv").write_bytes(written(rows, delimiter).encode("utf-8-sig"))
    assert [row for _, row in read(tmp_path / "scans.csv").rows] == rows


def test_numbers_may_have_a_comma():
    assert [decimal(text) for text in ("1,5", "-0.25", "1e-3", "2")] == [1.5, -0.25, 0.001, 2]
    for text in ("", "1.234,5", "1,2,3", "x"):
        with pytest.raises(ValueError, match="could not convert"):
            decimal(text)
    assert [parse_fold(text, "here") for text in ("0", "1.0", "2,0", " 3 ", "")] == [0, 1, 2, 3, None]
    for text in ("1.5", "-1", "1e0", "\u0661"):
        with pytest.raises(DataError):
            parse_fold(text, "here")
