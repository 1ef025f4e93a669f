"""One labelled scan on disk, and its lesion mask."""

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from bcx.errors import DataError


@dataclass(frozen=True)
class Record:
    """One labelled scan."""

    file: Path
    key: str  # `<source>/<path below the root>` with forward slashes; unique, and free of this machine's folders
    label: str
    group: str  # `<source>:<group>`; what shares it (patient, lesion, near-duplicates) never straddles a split
    source: str  # "busi", "busbra", or what the user named it
    masks: tuple[Path, ...] = ()  # files of lesion masks of the same size as the scan
    fold: int | None = None  # None where none is assigned


# A mask whose brightest value stays below this is coded by class numbers (0, 1, 2 ...), not by black and white.
# A black JPEG decodes to exact zeros, so compression noise cannot pass for class numbers.
_LABEL_LIMIT = 16


def load_mask(record: Record, shape: tuple[int, ...]) -> np.ndarray | None:
    """Read the lesion masks of a scan of a shape `(H, W)` or `(H, W, 3)` as one: bool `[H, W]`, None where it has none.

    Raises:
        DataError: a mask that cannot be read, or of another size than the scan.
    """
    masks = (_read_mask(file, (shape[0], shape[1])) for file in record.masks)
    return reduce(np.logical_or, masks) if record.masks else None


def _read_mask(file: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        with Image.open(file) as image:
            quarter_turn = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # as `Scan` turns the scan itself
            size = image.size[::-1] if quarter_turn else image.size
            if size == (shape[1], shape[0]):  # told before decoding, so a huge mask costs nothing
                turned = ImageOps.exif_transpose(image)
                values = np.asarray(turned if turned.mode.startswith("I") else turned.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = str(error).replace(str(file), file.name)  # results are passed on, folders of this machine are not
        raise DataError(
            f"The mask '{file.name}' cannot be read ({why}).",
            expected="a black and white picture of the same size as its scan",
            remedy="Replace the file, or remove it to go on without this mask.",
        ) from error
    if size != (shape[1], shape[0]):
        raise DataError(
            f"The mask '{file.name}' has {size[0]} x {size[1]} pixels, its scan {shape[1]} x {shape[0]}.",
            expected="a mask of the same size as its scan",
            remedy="Save the mask again at the scan's size, or remove it to go on without this mask.",
        )
    peak = int(values.max(initial=0))
    if peak < _LABEL_LIMIT:
        return values > 0
    return values > (127 if values.dtype == np.uint8 else peak // 2)
