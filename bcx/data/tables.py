"""CSV tables that people hand in, with commas, semicolons or tabs, in UTF-8, UTF-16 or Windows' Western code page."""

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bcx.errors import BcxError, DataError

MOST_BYTES, MOST_ROWS, MOST_COLUMNS = 100_000_000, 500_000, 1000
MOST_IN_A_ROW = 1_000_000  # characters
# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV injection").
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_DELIMITERS = (",", ";", "\t")
_MARKS = (  # the longer ones first: UTF-32's begins like UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Table(NamedTuple):
    """Columns, the known ones in their known spelling; of each row that is not empty its line, and cells by column."""

    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]


def read_table(
    path: Path, required: Sequence[str], others: Sequence[str] = (), *, layout: str, error: type[BcxError] = DataError
) -> Table:
    """Read a CSV table, without the spaces around cells.

    Columns that are `required` or known (`others`) may be written in any case.

    Raises:
        DataError (or `error`): it cannot be read as text or as a table, a required column is missing, a known one comes
            twice, or a row has cells beyond the last column or none for a required one.
    """

    def wrong(found: str, remedy: str) -> BcxError:
        return error(found, expected=layout, remedy=remedy)

    name = path.name
    try:
        text = _text(path)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise wrong(f"'{name}' cannot be read as a table ({reason}).", "Save it as CSV in UTF-8.") from problem
    known = {column.lower(): column for column in (*required, *others)}
    said = re.match(r"sep=([^\w\s\"]|\t)\r?\n", text, re.IGNORECASE)
    skipped, body = (1, text[said.end() :]) if said else (0, text)
    delimiter = said[1] if said else _delimiter(body, known)
    records: list[tuple[int, list[str]]] = []
    try:
        for line, cells in _records(body, delimiter):
            if len(cells) > MOST_COLUMNS:
                raise csv.Error(f"it has more than {MOST_COLUMNS:,} cells")
            if not records or any(cell.strip() for cell in cells):
                records.append((line + skipped, [cell.strip() for cell in cells]))
    except csv.Error as problem:
        line = (records[-1][0] if records else skipped) + 1
        raise wrong(
            f"'{name}' cannot be read as a table from line {line} on ({problem}).",
            "Look for a double quote that is not closed, or give a smaller table.",
        ) from problem
    header = [known.get(column.lower(), column) for column in (records[0][1] if records else [])]
    while header and not header[-1]:
        header.pop()
    if absent := [column for column in required if column not in header]:
        first = delimiter.join(header)[:80]
        raise wrong(
            f"'{name}' has no column {', '.join(map(repr, absent))}; its first line is '{first}'.",
            "Name the columns in the first line.",
        )
    if twice := [column for column in known.values() if header.count(column) > 1]:
        raise wrong(f"'{name}' has the column '{twice[0]}' twice.", "Rename or remove the column.")
    rows = []
    for line, cells in records[1:]:
        beyond = [cell for cell in cells[len(header) :] if cell]
        missing = [column for column in header[len(cells) :] if column in required]
        if beyond or missing:
            what = f"'{beyond[0][:80]}' stands beyond" if beyond else f"there is none for '{missing[0]}'"
            raise wrong(
                f"Line {line} of '{name}' does not have {len(header)} cells as the first line has: {what}.",
                "Put names that hold the separator in double quotes.",
            )
        cells += [""] * (len(header) - len(cells))  # spreadsheets leave out empty cells at the end
        rows.append((line, dict(zip(header, cells, strict=False))))
    return Table(header, rows)


def read_columns(path: Path, kinds: Mapping[str, Callable[[str], Any]], *, layout: str) -> dict[str, list[Any]]:
    """Read the columns of a table that bcx wrote; `kinds` makes a value of each one's cells: `str`, `decimal`."""
    columns: dict[str, list[Any]] = {name: [] for name in kinds}
    for line, row in read_table(path, list(kinds), layout=layout).rows:
        for name, kind in kinds.items():
            try:
                columns[name].append(kind(row[name]))
            except (ValueError, OverflowError) as error:
                raise DataError(
                    f"Line {line} of '{path.name}' has '{row[name][:80]}' in the column '{name}'.",
                    expected="a number",
                    remedy="Correct the cell, or make the table again with the command that wrote it.",
                ) from error
    return columns


def decimal(text: str) -> float:
    """Read a number with a decimal point or comma."""
    return float(text.replace(",", ".") if "." not in text else text)


def harmless(cell: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would run as a formula; numbers pass unchanged."""
    return "'" + cell if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


def as_meant(cell: str) -> str:
    """Take the apostrophe of `harmless` away again."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA_STARTS) else cell


def _text(path: Path) -> str:
    """The file's text, with its line ends as they are; `ValueError` where it is too large, or no text."""
    with path.open("rb") as handle:
        data = handle.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES // 10**6} MB")
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding)
    if data[1:2000:2].count(0) > len(data[:2000]) // 4:
        text = data.decode("utf-16-le")
    elif data[:2000:2].count(0) > len(data[:2000]) // 4:
        text = data.decode("utf-16-be")
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("cp1252")
    if "\0" in text:
        raise ValueError("it is no text")
    return text


def _delimiter(text: str, known: dict[str, str]) -> str:
    """The sign that finds most of the known columns in the first line, and among equals most columns."""

    def found(delimiter: str) -> tuple[int, int]:
        try:
            _, cells = next(_records(text, delimiter), (0, []))
        except csv.Error:
            return 0, 0
        return sum(cell.strip().lower() in known for cell in cells), len(cells)

    return max(_DELIMITERS, key=found)


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of their first line; `csv.Error` where one, or their number, is too large."""
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for line in re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text):
            taken += len(line[0])
            if taken > MOST_IN_A_ROW:
                raise csv.Error(f"a row has more than {MOST_IN_A_ROW:,} characters")
            yield line[0]

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    begun = 1
    for number, cells in enumerate(reader):
        if number > MOST_ROWS:
            raise csv.Error(f"there are more than {MOST_ROWS:,} rows")
        yield begun, cells
        begun, taken = reader.line_num + 1, 0
