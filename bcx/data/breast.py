"""BrEaST (Pawlowska et al., Scientific Data 2024; Breast-Lesions-USG, The Cancer Imaging Archive): a patient per scan.

>>> from tempfile import TemporaryDirectory
>>> from bcx.simulate import write_breast_folder
>>> from bcx.tasks import get_task
>>> with TemporaryDirectory() as folder:
...     reading = read_breast(write_breast_folder(folder, cases=3), task=get_task("breast-ultrasound"))
>>> [(record.label, record.group, len(record.masks)) for record in reading.records]
[('normal', 'breast:case001', 0), ('benign', 'breast:case002', 1), ('malignant', 'breast:case003', 1)]
"""

from __future__ import annotations

from pathlib import Path

from bcx.data.manifest import read_manifest
from bcx.data.reading import Reading, existing_folder
from bcx.errors import DataError
from bcx.tasks import Task

LAYOUT = "a folder with 'manifest.csv', 'Images' and 'Masks'"
TABLE = "manifest.csv"


def read_breast(root: Path, *, task: Task, source: str = "breast") -> Reading:
    """Read BrEaST: `Images/case001.jpg`, `Masks/case001.png` (normals have none) and `manifest.csv`.

    The table has the columns file, label, group (the case) and mask, as `bcx.data.manifest` reads it. The published
    spreadsheet becomes one by keeping Image_filename, Classification, CaseID and Mask_tumor_filename under these names.

    Args:
        task: must know the labels: normal, benign and malignant.
    """
    table = existing_folder(root, LAYOUT) / TABLE
    if not table.is_file():
        raise DataError(
            f"'{root}' has no '{TABLE}'.", expected=LAYOUT, remedy="Point to the folder of BrEaST that holds the table."
        )
    return read_manifest(table, task=task, source=source)
