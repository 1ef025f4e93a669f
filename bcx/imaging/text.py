"""Burnt-in text: find the lines of letters that stand on a scan or beside it, and cover them.

Letters are thin, bright, stand out from what is behind them, and stand in lines. The whole line is covered, so that a
letter that was missed inside it is too.
"""

import cv2
import numpy as np

#: What takes a pixel for one of a letter: how bright it is, how far it stands out, and how many letters make a line.
#: Few letters must be plain; weak ones must be many, of one height.
_RULES = ((190, 100, 3), (150, 60, 6))
_DARK = 20  # beside the scan: there, letters need not be as bright
_SAME_HEIGHT = 0.25  # mean deviation, as a share of the height


def find_text(pixels: np.ndarray) -> np.ndarray:
    """Return bool `[H, W]`, True on the boxes of lines of text of a scan, uint8 `[H, W]` or `[H, W, 3]`."""
    bright = pixels if pixels.ndim == 2 else pixels.max(axis=2)  # of coloured letters too
    side = float(np.sqrt(bright.size))
    stroke = 2 * max(2, round(side / 120)) + 1
    behind = cv2.morphologyEx(bright, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (stroke, stroke)))
    rise = bright - behind
    found = np.zeros(bright.shape, bool)
    for level, least, letters in _RULES:
        core = ((bright >= level) | (behind <= _DARK)) & (rise >= least)
        for line in _lines(_letters(core, side)):
            height = float(np.median(line[:, 3]))
            if len(line) < letters or np.abs(line[:, 3] - height).mean() > _SAME_HEIGHT * height:
                continue
            (left, top), (right, bottom) = line[:, :2].min(0), (line[:, :2] + line[:, 2:]).max(0)
            reach = max(2, round(0.4 * height))
            found[max(0, top - reach) : bottom + reach, max(0, left - 2 * reach) : right + 2 * reach] = True
    return found


def mask_text(pixels: np.ndarray) -> np.ndarray:
    """Return a copy with every line of text covered, each by what is behind it: the median around its letters."""
    covered = pixels.copy()
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(find_text(pixels).astype(np.uint8))
    for number in range(1, count):
        left, top, width, height = boxes[number, :4]
        place = (slice(top, top + height), slice(left, left + width))
        inside = parts[place] == number
        covered[place][inside] = np.median(pixels[place][inside], axis=0)
    return covered


def _letters(core: np.ndarray, side: float) -> np.ndarray:
    """Return int `[N, 4]`: left, top, width and height of what is as large as a letter, from left to right."""
    boxes = cv2.connectedComponentsWithStats(core.astype(np.uint8), connectivity=8)[2][1:]
    wide, high, area = boxes[:, 2], boxes[:, 3], boxes[:, 4]
    boxes = boxes[(high >= 6) & (high <= side / 10) & (wide <= side / 6) & (area >= 5), :4]
    return boxes[np.argsort(boxes[:, 0])]


def _lines(letters: np.ndarray) -> list[np.ndarray]:
    """Put letters of like height that follow each other into lines."""
    lines: list[list[np.ndarray]] = []
    for box in letters:
        for line in lines:
            known = np.array(line[-4:])
            height = float(np.median(known[:, 3]))
            middle = float(np.median(known[:, 1] + known[:, 3] / 2))
            gap = box[0] - (known[:, 0] + known[:, 2]).max()
            level = abs(box[1] + box[3] / 2 - middle)
            if gap <= 2 * height and level <= height / 2 and height / 2 <= box[3] <= 2 * height:
                line.append(box)
                break
        else:
            lines.append([box])
    return [np.array(line) for line in lines]
