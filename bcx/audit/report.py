"""The audit's report: one HTML file with everything in it, light or dark as the reader's system is, on any screen.

It shows patients' scans, so it goes only where the user asks, and says so.

>>> chip("conflict: benign, malignant", alarm=True)
'<span class="chip alarm">conflict: benign, malignant</span>'
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby
from pathlib import Path

import cv2

from bcx.audit.findings import Audit, Pair
from bcx.audit.grouping import Group
from bcx.audit.layers import shrunk
from bcx.audit.matching import NEAR_DUPLICATE
from bcx.audit.oddities import KINDS
from bcx.audit.tables import whole_text
from bcx.errors import BcxError
from bcx.imaging.names import count_left_out
from bcx.imaging.scan import Scan

STYLE = Path(__file__).with_name("report.css")
PICTURE_SIDE, QUALITY = 300, 72
"""Longer side and JPEG quality of the pictures."""
MOST_PAIRS, MOST_ODD = 400, 40
"""Pairs, and files of one kind of oddity, that are shown; the tables have all."""
ALARMING = ("label conflicts", "groups that straddle the split", "unreadable", "not a scan")


def write_report(found: Audit, path: Path) -> Path:
    """Write the report; it takes its name only when all of it is there."""
    with whole_text(path) as handle:
        for piece in _pieces(found):
            handle.write(piece + "\n")
    return path


def chip(text: str, alarm: bool = False) -> str:
    """Return a small label."""
    return f'<span class="chip{" alarm" if alarm else ""}">{escape(text)}</span>'


def _pieces(found: Audit) -> Iterator[str]:
    name = escape(found.root.resolve().name)
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Audit of {name}</title><style>\n{STYLE.read_text('utf-8')}</style></head><body><main>"
    yield f"<h1>Audit of {name}</h1>"
    yield f'<p class="soft">{len(found.looks):,} pictures in {found.seconds:.0f} s. Made by bcx audit.</p>'
    yield '<p class="notice">This report shows patients\' scans. Keep it where the scans themselves may be kept.</p>'
    yield from _counts(found)
    yield from _advice(found)
    yield from _groups("Groups that straddle the split", found.straddling, "These scans are on both sides.", found)
    yield from _groups("Label conflicts", found.conflicts, "The same frame or lesion under different labels.", found)
    yield from _pairs(found)
    yield from _odd(found)
    yield from _limits(found)
    yield "</main></body></html>"


def _counts(found: Audit) -> Iterator[str]:
    yield '<ul class="counts">'
    for name, count in found.counts().items():
        if count or name not in KINDS:
            heading = KINDS.get(name, name)
            alarm = ' class="alarm"' if count and name in ALARMING else ""
            yield f"<li{alarm}><b>{count:,}</b><span>{escape(heading[0].upper() + heading[1:])}</span></li>"
    yield "</ul>"


def _advice(found: Audit) -> Iterator[str]:
    if not found.groups:
        yield "<p>No two pictures were found that show the same frame or lesion.</p>"
        return
    yield (
        "<p>Scans of one group must not end up on both sides of a split. Put <code>groups.csv</code> into the folder "
        "of the images (or beside your manifest): <code>bcx train</code> and <code>bcx crossval</code> then keep its "
        "groups together.</p>"
    )


def _groups(title: str, groups: list[Group], sentence: str, found: Audit) -> Iterator[str]:
    if not groups:
        return
    yield f'<h2>{title} ({len(groups)})</h2><p>{sentence}</p><div class="groups">'
    for group in groups:
        yield f'<div class="group">{chip("group " + group.name)}{_chips(group)}<ul class="files">'
        for file in group.files:
            known = [kind[file] for kind in (found.labels, found.parts) if kind.get(file)]
            yield f"<li>{escape(file)}{' · ' + escape(', '.join(known)) if known else ''}</li>"
        yield "</ul></div>"
    yield "</div>"


def _chips(group: Group) -> str:
    parts = [chip("labels: " + ", ".join(group.labels), alarm=True)] if len(group.labels) > 1 else []
    parts += [chip("split: " + " | ".join(group.parts), alarm=True)] if len(group.parts) > 1 else []
    return "".join(parts)


def _pairs(found: Audit) -> Iterator[str]:
    group_of = {file: group for group in found.groups for file in group.files}
    room = MOST_PAIRS
    for kind, title, sentence in (
        (NEAR_DUPLICATE, "Near-duplicates", "The same frame: saved again, cropped, mirrored, marked or scaled."),
        (
            "same lesion",
            "The same lesion in another frame",
            "These agree in their anatomy, not in their speckle. Look at each: two lesions can look alike.",
        ),
    ):
        pairs = [pair for pair in found.pairs if pair.kind == kind]
        if not pairs:
            continue
        # What does most harm is shown first.
        pairs.sort(key=lambda p: (not _chips(group_of[p.a]), -p.match.score, p.a, p.b))
        yield f"<h2>{title} ({len(pairs)})</h2><p>{sentence}</p>"
        if len(pairs) > room:
            yield f'<p class="soft">The first {room} are shown; <code>pairs.csv</code> lists all.</p>'
        yield '<div class="pairs">'
        for pair in pairs[:room]:
            yield _card(pair, group_of[pair.a], found)
        yield "</div>"
        room = max(60, room - len(pairs))


def _card(pair: Pair, group: Group, found: Audit) -> str:
    said = [f"{100 * pair.match.score:.0f} % agreement", *pair.match.changes]
    if pair.match.mirrored and "mirrored" not in said:
        said.append("mirrored")
    chips = chip("group " + group.name) + _chips(group)
    return (
        f'<article class="pair"><div class="sides">{_figure(found, pair.a)}{_figure(found, pair.b)}</div>'
        f"<p>{chips}</p><p>{escape(', '.join(said))}</p></article>"
    )


def _figure(found: Audit, file: str, detail: str = "") -> str:
    known = [kind[file] for kind in (found.labels, found.parts) if kind.get(file)]
    caption = escape(file) + (f"<br>{escape(', '.join(known))}" if known else "")
    caption += f"<br>{escape(detail)}" if detail else ""
    data = _picture(found.root / file)
    image = f'<img src="data:image/jpeg;base64,{data}" alt="{escape(file)}">' if data else ""
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _picture(path: Path) -> str:
    """Return a small JPEG of a scan in base64; "" where it cannot be read."""
    try:
        pixels = Scan.open(path).pixels
    except BcxError:
        return ""
    small = shrunk(pixels, PICTURE_SIDE) if max(pixels.shape[:2]) > PICTURE_SIDE else pixels
    if small.ndim == 3:
        small = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return base64.b64encode(data.tobytes()).decode("ascii")


def _odd(found: Audit) -> Iterator[str]:
    if not found.odd:
        return
    yield f"<h2>Odd files ({len({file for file, _ in found.odd}):,})</h2>"
    yield "<p>Nothing here need be wrong; it is what a look through the folder would notice.</p>"
    for kind, some in groupby(found.odd, key=lambda each: each[1].kind):
        files = list(some)
        yield f"<h3>{KINDS[kind]} ({len(files):,})</h3>"
        if len(files) > MOST_ODD:
            yield f'<p class="soft">The first {MOST_ODD} are shown; <code>oddities.csv</code> lists all.</p>'
        yield from _shown(kind, ((file, odd.detail) for file, odd in files[:MOST_ODD]), found)


def _shown(kind: str, files: Iterable[tuple[str, str]], found: Audit) -> Iterator[str]:
    if kind == "unreadable":
        yield '<ul class="files">'
        for file, detail in files:
            yield f"<li><b>{escape(file)}</b>: {escape(detail)}</li>"
        yield "</ul>"
        return
    yield '<div class="odd">'
    for file, detail in files:
        yield _figure(found, file, detail)
    yield "</div>"


def _limits(found: Audit) -> Iterator[str]:
    left = count_left_out(why for _, why in found.left_out)
    yield "<h2>What this cannot tell</h2>"
    yield (
        "<p>Frames of one patient that share no anatomy look like those of two patients: groups by patient must come "
        "from you. Names were not consulted for finding pairs, only pixels.</p>"
    )
    for note in found.notes:
        yield f'<p class="soft">{escape(note)}</p>'
    if left:
        yield f'<details class="soft"><summary>Left out: {left}.</summary><ul class="files">'
        for file, why in found.left_out:
            yield f"<li>{escape(file)}: {why}</li>"
        yield "</ul></details>"
