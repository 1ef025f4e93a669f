"""What an audit found, and writing it down: one HTML file with everything in it, and the tables `groups.csv` and so on.

The report shows patients' scans, so it goes only where the user asks, and says so.
"""

import base64
import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, combinations, groupby
from pathlib import Path
from typing import Any, TextIO

import cv2
from jinja2 import Environment, StrictUndefined

import bcx
from bcx.audit.look import Look
from bcx.audit.matching import NEAR_DUPLICATE, SAME_LESION, Match
from bcx.audit.oddities import KINDS, Odd
from bcx.data.reading import GROUPS, join
from bcx.data.tables import harmless
from bcx.errors import BcxError
from bcx.files import whole
from bcx.imaging.names import MASK, NO_PICTURE, count_left_out
from bcx.imaging.preprocess import with_side
from bcx.imaging.scan import Scan

_PAGE, _STYLE = (Path(__file__).with_name(name) for name in ("report.html", "report.css"))
_SIDE, _QUALITY = 300, 72  # longer side and JPEG quality of the images
_MOST_PAIRS, _MOST_ODD = 400, 40  # pairs, and files of one kind of oddity, that are shown; the tables have all
_ALARMING = ("label conflicts", "groups that straddle the split", "unreadable", "not a scan")
_SECTIONS = {
    NEAR_DUPLICATE: ("Near-duplicates", "The same frame: saved again, cropped, mirrored, marked or scaled."),
    SAME_LESION: (
        "The same lesion in another frame",
        "These agree in their anatomy, not in their speckle. Look at each: two lesions can look alike.",
    ),
}
LARGE = 30  # files from which a group's pairs are not all written down


@dataclass(frozen=True)
class Group:
    """Scans that show the same frame or lesion."""

    name: str  # made of the content, so that it does not depend on file names
    files: tuple[str, ...]  # sorted
    labels: tuple[str, ...]  # the different ones among them; more than one is a conflict
    parts: tuple[str, ...]  # of the split, the different ones among them; more than one means that it leaks

    @property
    def harmful(self) -> bool:
        """Whether the group carries more than one label, or lies in more than one part of the split."""
        return len(self.labels) > 1 or len(self.parts) > 1


def make_groups(
    pairs: Iterable[tuple[str, str]], content: Mapping[str, str], labels: Mapping[str, str], parts: Mapping[str, str]
) -> list[Group]:
    """Join pairs of files into groups, in the order of their first file; `content` digests each file's pixels."""
    groups = []
    for files in sorted(tuple(sorted(members)) for members in join(pairs)):
        found = (tuple(sorted({kind[f] for f in files if kind.get(f)})) for kind in (labels, parts))
        groups.append(Group(min(content[file] for file in files)[:12], files, *found))
    return groups


@dataclass(frozen=True)
class Pair:
    """Two files, in order of their names, and what they have in common."""

    a: str
    b: str
    match: Match

    @property
    def kind(self) -> str:
        return self.match.kind


@dataclass(frozen=True)
class Audit:
    """What an audit found."""

    root: Path
    looks: list[Look]  # one for each image, in order of file names
    pairs: list[Pair]  # near-duplicates first, then by how well they agree
    groups: list[Group]  # what pairs tie together
    odd: list[tuple[str, Odd]]  # (file, what), in the order of `KINDS`
    labels: dict[str, str]  # by file, where known
    parts: dict[str, str]
    left_out: list[tuple[str, str]]  # files that are no images, as (file, why)
    notes: tuple[str, ...]  # what is worth knowing about the run
    seconds: float

    @property
    def conflicts(self) -> list[Group]:
        return [group for group in self.groups if len(group.labels) > 1]

    @property
    def straddling(self) -> list[Group]:
        return [group for group in self.groups if len(group.parts) > 1]

    @property
    def clean(self) -> bool:
        """Whether nothing at all was found."""
        return not (self.pairs or self.odd)

    def told(self) -> Iterator[tuple[str, str, int]]:
        """Yield (name, heading, count) of all that is worth telling: oddities only where there are some."""
        for name, count in self.counts().items():
            if count or name not in KINDS:
                yield name, KINDS.get(name, name).capitalize(), count

    def counts(self) -> dict[str, int]:
        """Return how much of each was found, by name."""
        pairs = Counter(pair.kind for pair in self.pairs)
        odd = Counter(odd.kind for _, odd in self.odd)
        return {
            "pictures": len(self.looks),
            "near-duplicate pairs": pairs[NEAR_DUPLICATE],
            "same-lesion pairs": len(self.pairs) - pairs[NEAR_DUPLICATE],
            "groups": len(self.groups),
            "pictures in groups": sum(len(group.files) for group in self.groups),
            "label conflicts": len(self.conflicts),
            **({"groups that straddle the split": len(self.straddling)} if self.parts else {}),
            **{kind: odd[kind] for kind in KINDS},
        }


def write_report(found: Audit, path: Path) -> None:
    """Write the report; it takes its name only when all of it is there."""
    counts = [(count, words, count and name in _ALARMING) for name, words, count in found.told()]
    odd = [(KINDS[kind], kind, list(files)) for kind, files in groupby(found.odd, key=lambda each: each[1].kind)]
    settings: Any = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    page = Environment(autoescape=True, undefined=StrictUndefined, **settings).from_string(_PAGE.read_text("utf-8"))
    with _whole_text(path) as handle:
        handle.writelines(
            page.generate(
                found=found,
                name=found.root.resolve().name,
                style=_STYLE.read_text("utf-8"),
                counts=counts,
                pairs_sections=_pairs_sections(found),
                odd=odd,
                odd_files=len({file for file, _ in found.odd}),
                most_odd=_MOST_ODD,
                left_out=count_left_out(why for _, why in found.left_out),
                thumbnail=lambda file: _thumbnail(found.root / file),
                known=lambda file: ", ".join(kind[file] for kind in (found.labels, found.parts) if kind.get(file)),
            )
        )


def _pairs_sections(found: Audit) -> Iterator[tuple[str, str, list[Any], int]]:
    """Title, sentence, pairs with their groups, and how many of them are shown: what does most harm first."""
    group_of = {file: group for group in found.groups for file in group.files}
    room = _MOST_PAIRS
    for kind, (title, sentence) in _SECTIONS.items():
        if pairs := [(pair, group_of[pair.a]) for pair in found.pairs if pair.kind == kind]:
            pairs.sort(key=lambda each: (not each[1].harmful, -each[0].match.score, each[0].a, each[0].b))
            yield title, sentence, pairs, room
            room = max(60, room - len(pairs))


def _thumbnail(path: Path) -> str:
    """Return a small JPEG of a scan as a data address; "" where it cannot be read."""
    try:
        pixels = Scan.open(path).pixels
    except BcxError:
        return ""
    small = with_side(pixels, min(_SIDE, max(pixels.shape[:2])))
    _, data = cv2.imencode(".jpg", small[..., ::-1] if small.ndim == 3 else small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode('ascii')}"


def write_tables(found: Audit, folder: Path) -> None:
    """Write the tables into an existing folder; nobody meets half a table."""
    columns = "file_a,file_b,kind,agreement,landmarks,changes,label_a,label_b,part_a,part_b"
    direct = ((p.a, p.b, p.kind, p.match.score, p.match.landmarks, "; ".join(p.match.changes)) for p in found.pairs)
    through = ((a, b, SAME_LESION, "", "", "through the group") for a, b in implied(found))
    known = (found.labels, found.parts)
    pairs = ((*row, *(of.get(file, "") for of in known for file in row[:2])) for row in chain(direct, through))
    tables: list[tuple[str, str, Iterable[Sequence[object]]]] = [
        (GROUPS, "file,group", ((file, group.name) for group in found.groups for file in group.files)),
        ("pairs.csv", columns, pairs),
        ("oddities.csv", "file,kind,detail", ((file, odd.kind, odd.detail) for file, odd in found.odd)),
    ]
    for name, header, rows in tables:
        with _whole_text(folder / name) as handle:
            handle.write(f"{header}\n")
            csv.writer(handle, lineterminator="\n").writerows([harmless(cell) for cell in row] for row in rows)
    summary = {
        "folder": found.root.resolve().name,
        "bcx": bcx.__version__,
        "seconds": round(found.seconds, 1),
        "counts": found.counts(),
        "masks left out": sum(why == MASK for _, why in found.left_out),
        "other files": sum(why == NO_PICTURE for _, why in found.left_out),
        "notes": list(found.notes),
    }
    with _whole_text(folder / "audit.json") as handle:
        json.dump(summary, handle, indent=2)
        handle.write("\n")


def implied(found: Audit) -> list[tuple[str, str]]:
    """Return the pairs within groups up to `LARGE` files that were not found directly: a copy of a copy is a copy."""
    direct = {(pair.a, pair.b) for pair in found.pairs}
    small = [group.files for group in found.groups if len(group.files) <= LARGE]
    return [pair for files in small for pair in combinations(files, 2) if pair not in direct]


@contextmanager
def _whole_text(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing that takes its name only when all of it is there."""
    # A name that is no valid Unicode (Linux allows it) is spelled out rather than lost.
    with whole(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as handle:
        yield handle
