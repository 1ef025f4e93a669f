"""What a file's name promises: an image, or something that lies in folders without anyone having put it there."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

# Whether or not bcx reads the format.
_SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".svg"}
    | {".dcm", ".dicom", ".dic", ".ima", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".jxl"}
)
_UNFINISHED = frozenset((".part", ".partial", ".crdownload", ".download", ".opdownload"))  # while a browser downloads

MASK = "a mask beside its scan"
NO_PICTURE = "no picture"
ARCHIVE = "an archive, read only where it is named by itself"
LINK = "a link inside an archive"
"""Why a file of a folder or an archive is left out."""
_COUNTED = {
    MASK: ("mask", "masks"),
    NO_PICTURE: ("file that is no picture", "files that are no pictures"),
    LINK: ("link", "links"),
    ARCHIVE: ("archive (read only if named by itself)", "archives (read only if named by themselves)"),
}


def called_a_picture(name: str) -> bool:
    """Tell whether a file's name, with or without folders, ends like an image's and is not hidden, as a Mac's `._*`."""
    path = PurePosixPath(name)
    if path.suffix.lower() in _UNFINISHED:
        path = path.with_suffix("")
    return not path.name.startswith(".") and path.suffix.lower() in _SUFFIXES


def count_left_out(reasons: Iterable[str]) -> str:
    """Say how many files were left out for each reason: "2 masks and 1 file that is no picture"."""
    counts = Counter(reasons)
    return " and ".join(f"{counts[why]} {words[counts[why] > 1]}" for why, words in _COUNTED.items() if counts[why])
