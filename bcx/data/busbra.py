"""BUS-BRA (Gomez-Flores et al., Medical Physics 2024) by its `bus_data.csv`."""

from __future__ import annotations

from pathlib import Path

from bcx.data.reading import Reading, existing_folder, fold_problems, match_label, parse_fold, some
from bcx.data.records import Record
from bcx.data.tables import read_table
from bcx.errors import DataError
from bcx.tasks import Task

LAYOUT = "a folder with 'bus_data.csv', 'Images' and 'Masks'"
TABLE = "bus_data.csv"
COLUMNS = "the columns ID, Case and Pathology, a row for each picture"


def read_busbra(root: Path, *, task: Task, source: str) -> Reading:
    """Read BUS-BRA: `Images/bus_0001-l.png`, `Masks/mask_0001-l.png` (or other endings) and `bus_data.csv`.

    `Case`, the patient, is the group. A column `fold`, where there is one, gives the folds; a row with an empty fold
    stays outside. Without it `fold` is None throughout, for `bcx.data.splits.assign_folds` to fill in by patients.
    """
    table = existing_folder(root, LAYOUT) / TABLE
    if not table.is_file() or not (root / "Images").is_dir():
        raise DataError(
            f"'{root}' has no '{'Images' if table.is_file() else TABLE}'.",
            expected=LAYOUT,
            remedy="Point to the unpacked folder of BUS-BRA.",
        )
    rows = _rows(table)
    names = [row["ID"] for row in rows]
    reading = Reading()
    by_name = {file.stem: file for file in reading.look(root / "Images", root, trusted=names).scans}
    masks: dict[str, Path] = {}
    if (root / "Masks").is_dir():
        found = reading.look(root / "Masks", root, trusted=[_mask_name(name) for name in names])
        masks = {file.stem: file for file in found.scans}
    missing: list[str] = []
    for name, row in zip(names, rows, strict=True):
        file, mask = by_name.pop(name, None), masks.get(_mask_name(name))
        if file is None:
            missing.append(name)
            continue
        try:
            label = match_label(row["Pathology"], task, f"'{name}' in {TABLE}")
            fold = parse_fold(row.get("fold", ""), f"'{name}' in {TABLE}")
        except DataError as error:
            reading.problems.append(error)
            continue
        key, group = f"{source}/Images/{file.name}", f"{source}:{row['Case']}"
        reading.records.append(Record(file, key, label, group, source, (mask,) if mask else (), fold))
    if twice := sorted({name for name in missing if names.count(name) > 1}):
        reading.wrong(f"{TABLE} has more than one row for {some(twice)}.", "one row per ID", "Keep one.")
    if missing := [name for name in missing if name not in twice]:
        reading.wrong(
            f"{len(missing)} of the {len(rows)} pictures in {TABLE} are missing from '{root / 'Images'}'; "
            f"the first is '{missing[0]}'.",
            LAYOUT,
            "Unpack the download again, or remove their rows.",
        )
    if by_name:
        reading.wrong(
            f"{len(by_name)} pictures in 'Images' have no row in {TABLE}: {some(sorted(by_name))}.",
            "one row per picture",
            "Remove them, or use the table that belongs to them.",
        )
    reading.problems.extend(fold_problems(reading.records))
    return reading


def busbra_devices(root: Path, source: str = "busbra") -> dict[str, str]:
    """Return the scanner of each image whose cell in the column `Device` is not empty, by the key of its record.

    Raises:
        DataError: no such folder or table, or a table without that column.
    """
    table = existing_folder(root, LAYOUT) / TABLE
    rows = _rows(table) if table.is_file() else []
    if not rows or "Device" not in rows[0]:
        raise DataError(
            f"'{root}' does not say which machine took its pictures.",
            expected=f"the column Device in '{TABLE}'",
            remedy="Use the table as it was published.",
        )
    devices = {row["ID"]: row["Device"] for row in rows}
    files = Reading().look(existing_folder(root / "Images", LAYOUT), root, trusted=devices).scans
    return {f"{source}/Images/{file.name}": devices[file.stem] for file in files if devices.get(file.stem)}


def _mask_name(name: str) -> str:
    return "mask_" + name.removeprefix("bus_")


def _rows(table: Path) -> list[dict[str, str]]:
    rows = [row for _, row in read_table(table, ("ID", "Case", "Pathology"), ("fold", "Device"), layout=COLUMNS).rows]
    if not rows:
        raise DataError(f"'{table}' has no rows.", expected=COLUMNS, remedy="Use the table as it was published.")
    return rows
