"""How large an image may be, told before it is decoded, and what is said where decoding fails."""

from collections.abc import Iterator
from contextlib import contextmanager

from bcx.errors import BcxError, DamagedScan, ScanTooLarge, ScanTooSmall

MAX_BYTES = 200_000_000
"""Largest file, in bytes."""

MAX_PIXELS = 40_000_000
"""Largest image, in pixels: some ten times the largest screen; scans have about half a million."""

MIN_SIDE = 16
"""Shortest side, in pixels, that can show anything."""


def check_size(name: str, width: int, height: int) -> None:
    """Raise `ScanTooLarge` for more than `MAX_PIXELS`, `ScanTooSmall` for a side shorter than `MIN_SIDE`."""
    if width * height > MAX_PIXELS:
        raise ScanTooLarge(
            f"'{name}' has {width:,} x {height:,} pixels.",
            expected=f"at most {MAX_PIXELS / 1e6:g} million pixels",
            remedy="Make it smaller; the networks see a few hundred pixels a side.",
        )
    if min(width, height) < MIN_SIDE:
        raise ScanTooSmall(
            f"'{name}' has {width} x {height} pixels.",
            expected=f"at least {MIN_SIDE} pixels on each side",
            remedy="Use the original picture, not an icon or a preview of it.",
        )


def too_many_bytes(name: str, size: int) -> ScanTooLarge:
    """Return the error for a file of more than `MAX_BYTES`."""
    limit, remedy = f"at most {MAX_BYTES // 10**6} MB", "Export a single frame, or a smaller picture."
    return ScanTooLarge(f"'{name}' has {size / 1e6:.0f} MB.", expected=limit, remedy=remedy)


def out_of_memory(name: str) -> ScanTooLarge:
    """Return the error for a file whose decoding needs more memory than it may take."""
    remedy = "Make it smaller, or export a single frame from it."
    found = f"'{name}' needs more memory than there is."
    return ScanTooLarge(found, expected="a picture that fits into memory", remedy=remedy)


@contextmanager
def decoding(name: str, found: str, **more: str) -> Iterator[None]:
    """Turn what libraries raise at a damaged file, which may be anything, into a `DamagedScan`; `BcxError` passes.

    Its text is `found`, without the full stop, and in brackets what was raised; `more` is its `expected` and `remedy`.
    """
    try:
        yield
    except BcxError:
        raise
    except MemoryError as error:
        raise out_of_memory(name) from error
    except Exception as error:
        raise DamagedScan(f"{found} ({str(error).rstrip('.')[:200] or type(error).__name__}).", **more) from error
