"""Files that appear under their name only when all of them is there.

>>> from tempfile import TemporaryDirectory
>>> with TemporaryDirectory() as folder:
...     with whole(Path(folder, "a.txt")) as partial:
...         _ = partial.write_text("all of it")
...     [path.name for path in Path(folder).iterdir()]
['a.txt']
"""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

AnyPath = str | os.PathLike[str]


@contextmanager
def whole(path: AnyPath) -> Iterator[Path]:
    """Give a name to write to, which becomes `path` at the end; what goes wrong before leaves `path` as it was."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_rows(path: AnyPath, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV table, whole or not at all."""
    with whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(columns), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
