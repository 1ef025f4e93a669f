"""Pictures that are no scans: what the study counts is there, the same every time, and named."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from bcx.errors import DataError
from bcx.evaluate import non_scans


def digest(pictures):
    return [(p.kind, p.name, p.pixels.shape, int(p.pixels.astype(np.int64).sum())) for p in pictures]


@pytest.mark.slow
@pytest.mark.parametrize("source", [non_scans.documents, non_scans.noise, non_scans.fresh])
def test_drawn_pictures_are_the_same_every_time_and_differ_by_seed(source):
    first = digest(source())
    assert first == digest(source())
    assert set(Counter(kind for kind, *_ in first).values()) == {6}
    assert len({(kind, total) for kind, _, _, total in first}) > 0.9 * len(first)


def test_packages_ship_what_is_listed():
    pictures = [*non_scans.packaged(), *non_scans.packaged_late()]
    listed = sum(len(names.split()) for _, names in non_scans.PHOTOGRAPHS.values())
    counts = Counter(p.kind for p in pictures)
    assert counts["photograph: colour"] + counts["photograph: grey"] == listed
    assert counts["photograph: made grey"] == 5 * listed
    assert all(p.pixels.dtype == np.uint8 and p.pixels.ndim in (2, 3) for p in pictures)
    assert not any(p.pixels.ndim == 3 for p in pictures if "made grey" in p.kind)


def test_histology_spreads_over_the_folder_and_skips_what_is_broken(tmp_path):
    for number in range(10):
        (tmp_path / f"{number % 2}").mkdir(exist_ok=True)
        Image.fromarray(np.full((50, 50, 3), 20 * number, np.uint8)).save(tmp_path / f"{number % 2}" / f"{number}.png")
    pictures = list(non_scans.histology(tmp_path, 4, name="slides"))
    assert len(pictures) == 8
    assert {p.pixels.shape for p in pictures} == {(50, 50), (300, 300)}
    assert {p.name for p in pictures} >= {"0.png", "9.png"}
    (tmp_path / "0" / "0.png").write_bytes(b"no picture")
    assert len(list(non_scans.histology(tmp_path, 4, name="slides"))) == 6


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(DataError, match=tmp_path.name):
        next(non_scans.histology(tmp_path, 4, name="slides"))
