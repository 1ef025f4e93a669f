"""Plain checks: pictures that need no network to be told from an ultrasound scan.

>>> import numpy as np
>>> plain_checks(Scan.open(np.zeros((300, 400), np.uint8)))[0]
['This picture is blank: it shows one even tone.']

How often the limits below touch true scans was counted on BUSI (672 scans) and BUS-BRA (1,501): see each.
"""

from __future__ import annotations

import numpy as np

from bcx.images import Scan

# About so many points are looked at, on a regular grid: enough for shares to within a percent, quick at any size.
_POINTS = 20_000
# Shorter side in pixels. Smallest true scan: 190.
TINY = 96
# Grey levels between the 1st and 99th percentile. Smallest range of a true scan: 72.
BLANK_RANGE = 24
# Share of points that are bright and even with their neighbours. Largest of a true scan: .074.
PAGE_SHARE = 0.25
# Share of points of one single tone other than black. Largest of a true scan: .30.
SAME_TONE_SHARE = 0.55
# Share of points whose colour is plain to see. Largest of a true scan: .009 (marks of the machine).
COLOUR_SHARE, COLOUR_FLAG = 0.35, 0.001
_CHROMA = 40


def plain_checks(scan: Scan) -> tuple[list[str], list[str]]:
    """Look at a picture without a network.

    Args:
        scan: uint8 pixels [H, W] or [H, W, 3].

    Returns:
        Reasons why it is no scan, as sentences, the plainest first (none: it passes); and flags, what to know of it.
    """
    pixels = scan.pixels
    step = max(1, int(np.sqrt(scan.height * scan.width / _POINTS)))
    points = pixels[::step, ::step]
    beside = pixels[::step, 1::step][: len(points)]
    grey = points if points.ndim == 2 else points.max(2)
    width = min(points.shape[1], beside.shape[1])
    left = grey[:, :width].astype(np.int16)
    right = (beside if beside.ndim == 2 else beside.max(2))[:, :width].astype(np.int16)
    tones = np.bincount(grey.ravel(), minlength=256) / grey.size
    below = np.cumsum(tones)
    reasons, flags = [], []
    if min(scan.height, scan.width) < TINY:
        reasons.append(f"This picture is tiny ({scan.width} x {scan.height} pixels), too small to read a scan from.")
    if int(np.searchsorted(below, 0.99)) - int(np.searchsorted(below, 0.01)) < BLANK_RANGE:
        reasons.append("This picture is blank: it shows one even tone.")
        return reasons, flags
    coloured = 0.0
    if points.ndim == 3:
        chroma = points.max(2).astype(np.int16) - points.min(2)
        coloured = float((chroma > _CHROMA).mean())
    if coloured > COLOUR_SHARE:
        reasons.append("This picture has strong colours, like a photograph. A breast ultrasound scan is grey.")
    elif coloured > COLOUR_FLAG:
        flags.append("colour marks")
    if float(((np.abs(left - right) <= 1) & (left >= 160)).mean()) > PAGE_SHARE:
        reasons.append("This picture has large bright even areas, like a page of text, a drawing or a screenshot.")
    elif float(tones[12:].max()) > SAME_TONE_SHARE:
        reasons.append("Most of this picture has one single tone, like a drawing or a screenshot.")
    return reasons, flags
