"""What is odd about one scan, told from its pixels: colour, Doppler, writing, split screens, no scan at all.

Nothing here stops a scan from being used; a person decides. The limits were set while looking at 672 scans of BUSI (one
machine) and 1,501 of BUS-BRA (four machines).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from bcx.audit.features import burnt_in, looked_at
from bcx.imaging.preprocess import to_grey
from bcx.imaging.scan import Scan
from bcx.trust.plain import chroma_of, plain_checks

KINDS = {
    "unreadable": "Files that cannot be read",
    "not a scan": "Pictures that are no scans",
    "mask": "Black and white masks",
    "Doppler": "Doppler colours",
    "colour marks": "Coloured marks",
    "tint": "Tinted pictures",
    "split screen": "Split screens",
    "burnt-in text": "Burnt-in text",
    "calipers": "Burnt-in calipers",
    "size": "Unusual sizes",
    "intensity": "Unusual brightness or contrast",
    "several frames": "Files with several frames",
}
"""Kinds of oddities, in the order of the report, with their headings."""

BLACK, WHITE, TWO_TONES = 8, 247, 0.985  # grey levels and share of points of a mask
DOPPLER_SHARE = 0.0003  # share of the picture that solid red or blue fills
COLOUR_SHARE = 0.0002  # share of coloured pixels
_TALL, _SMALL = 30, 6  # heights of letters, in pixels at the size at which is looked


@dataclass(frozen=True)
class Odd:
    """One thing that is odd about a file: a key of `KINDS`, and a sentence."""

    kind: str
    detail: str


def oddities_of(scan: Scan) -> list[Odd]:
    """Return what is odd about a scan by itself, the gravest first."""
    seen = looked_at(scan.pixels)
    if is_mask(seen):
        return [Odd("mask", "The picture is black and white, like the mask of a lesion.")]
    reasons, flags = plain_checks(scan)
    found = [Odd("not a scan", reason) for reason in reasons[:1]]
    found += _colours(seen, tinted=any("tinted" in flag for flag in flags))
    if reasons:
        return found
    grey, marks = to_grey(seen), burnt_in(seen)
    if seam := split_screen(grey, marks):
        found.append(Odd("split screen", seam))
    words, crosses = writing(grey, marks)
    if words:
        found.append(Odd("burnt-in text", f"{words} line{'s' * (words > 1)} of writing."))
    if crosses:
        found.append(Odd("calipers", f"{crosses} mark{'s' * (crosses > 1)} like those of a measurement."))
    if frames := [note for note in scan.notes if note.startswith("first ")]:
        found.append(Odd("several frames", f"Only one was looked at: {frames[0]}."))
    return found


def is_mask(pixels: np.ndarray) -> bool:
    """Tell whether a picture shows black and white only, both of them."""
    grey = to_grey(pixels)
    black, white = float((grey <= BLACK).mean()), float((grey >= WHITE).mean())
    return black + white >= TWO_TONES and black > 0 and white > 0


def _colours(pixels: np.ndarray, tinted: bool) -> list[Odd]:
    if pixels.ndim == 2:
        return []
    if tinted:
        return [Odd("tint", "The whole picture is tinted.")]
    red, green, blue = (channel.astype(np.int16) for channel in cv2.split(np.ascontiguousarray(pixels)))
    # Flow is shown in red and blue; marks are mostly yellow, green or orange, and thin.
    flow = ((red - green > 60) & (red - blue > 30)) | ((blue - green > 40) & (blue - red > 30))
    solid = cv2.morphologyEx(flow.astype(np.uint8), cv2.MORPH_OPEN, np.ones((4, 4), np.uint8))
    share, doppler = float((chroma_of(pixels) > 30).mean()), float(solid.mean())
    if doppler > DOPPLER_SHARE:
        return [Odd("Doppler", f"Solid red or blue fills {100 * doppler:.2g} % of the picture.")]
    if share > COLOUR_SHARE:
        return [Odd("colour marks", f"{100 * share:.2g} % of the picture is coloured.")]
    return []


def writing(grey: np.ndarray, marks: np.ndarray) -> tuple[int, int]:
    """Count lines of burnt-in writing (three letters or more) and marks like those of calipers.

    `grey` is uint8 [H, W], no longer than `LOOK_SIDE`; `marks` bool [H, W], from `burnt_in`.
    """
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(marks.astype(np.uint8), connectivity=8)
    w, h, area = boxes.T[2:]
    fill = area / (w * h)
    letter = (h >= _SMALL) & (h <= _TALL) & (w <= 1.7 * h) & (fill > 0.15) & (fill < 0.95)
    letter[0] = False  # what is no mark
    found, crosses = [], 0
    for k in np.flatnonzero(letter)[:400]:
        left, top, wide, tall = boxes[k, :4].tolist()
        here = np.s_[top : top + tall, left : left + wide]
        shape = labels[here] == k
        ink = np.sort(grey[here][shape])
        # The one tone of ink: tissue that is as bright fades towards its edges.
        if (ink >= float(ink[int(0.9 * len(ink))]) - 25).mean() > 0.45:
            found.append((left, top, wide, tall))
            crosses += _is_cross(shape)
    return _lines(sorted(found)), crosses


def _is_cross(part: np.ndarray) -> bool:
    """Tell whether a mark is a plus or an x: two strokes that meet in the middle, corners or sides empty."""
    h, w = part.shape
    if not (7 <= h <= 22 and 0.7 <= w / h <= 1.4):
        return False
    small = cv2.resize(part.astype(np.uint8) * 255, (9, 9), interpolation=cv2.INTER_AREA) > 90
    rest = small.copy()
    rest[3:6], rest[:, 3:6] = False, False
    plus = small[3:6].any(0).all() and small[:, 3:6].any(1).all() and rest.sum() <= 2
    diagonal = np.eye(9, dtype=bool) | np.fliplr(np.eye(9, dtype=bool))
    near = cv2.dilate(diagonal.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return bool(plus or (small[diagonal].mean() > 0.8 and (small & ~near).sum() <= 2))


def _lines(boxes: list[tuple[int, int, int, int]]) -> int:
    """Count rows of at least three letters, from the left: as tall, on one line, no further apart than a space."""
    used: set[int] = set()
    lines = 0
    for start in range(len(boxes)):
        if start in used:
            continue
        row = [start]
        x, y, w, h = boxes[start]
        for k in range(start + 1, len(boxes)):
            x2, y2, _, h2 = boxes[k]
            gap = x2 - (x + w)
            if gap > 1.6 * max(h, h2):
                break
            level = abs((y2 + h2) - (y + h)) <= 0.25 * max(h, h2)
            if k not in used and gap >= -1 and level and max(h, h2) <= 1.35 * min(h, h2):
                row.append(k)
                x, y, w, h = boxes[k]
        if len(row) >= 3:
            used.update(row)
            lines += 1
    return lines


def split_screen(grey: np.ndarray, marks: np.ndarray) -> str:
    """Return in words how an image is split by a dark gap or a seam, else ""; arguments as `writing`."""
    height, width = grey.shape
    if width < 96 or height < 64:
        return ""
    rows = slice(height // 10, (9 * height) // 10, 3)  # every third row says the same
    inside = np.where(marks[rows], 0, grey[rows])
    column = _gap(inside) or _seam(inside)
    return f"Two pictures side by side, parted at {100 * column / width:.0f} % of the width." if column else ""


def _gap(inside: np.ndarray) -> int:
    """Return the middle of a dark gap between two bright areas; 0 where there is none."""
    width = inside.shape[1]
    # The upper half: further down, shadow and depth darken true tissue. Not every row of a shadow is dark.
    upper = inside[: len(inside) // 2]
    ordered = np.sort(upper, axis=0)
    bright, most = ordered[(3 * len(upper)) // 4], ordered[int(0.97 * len(upper))]
    dark = most < 16
    edges = np.flatnonzero(np.diff(np.concatenate([[0], dark.view(np.int8), [0]])))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        middle = (begin + end) // 2
        if end - begin < 2 or begin < width // 8 or end > width - width // 8 or not 0.25 < middle / width < 0.75:
            continue
        left, right = bright[begin - width // 8 : begin], bright[end : end + width // 8]
        if min((left > 25).mean(), (right > 25).mean()) > 0.8:
            return int(middle)
    return 0


def _seam(inside: np.ndarray) -> int:
    """Return the column of a straight seam: almost every row jumps there and does not come back; 0 for none."""
    width = inside.shape[1]
    jumps = cv2.absdiff(inside[:, 1:], inside[:, :-1]).astype(np.float32)
    often = (jumps > 2 * cv2.blur(jumps, (25, 1)) + 2).mean(0)
    strong = jumps.mean(0) / (cv2.blur(jumps.mean(0)[None], (25, 1))[0] + 0.5)
    column = int(np.argmax(often[width // 4 : (3 * width) // 4])) + width // 4
    if often[column] < 0.6 or strong[column] < 2.5:
        return 0
    # A bright line, as a faulty element draws it, has the same tissue on both sides.
    apart = cv2.absdiff(inside[:, 8:], inside[:, :-8]).mean(0)
    return column if apart[column - 4] > 1.6 * np.median(apart) else 0
