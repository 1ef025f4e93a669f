"""The ultrasound region of a DICOM header: believed where it is plain, ignored with a note where it is not."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

from bcx.imaging.scan import Scan
from bcx.simulate import simulate
from tests.dicoms import framed, region, ultrasound

SCAN = simulate("benign", 2, 300, 400).pixels
EDGES = (90, 60, 489, 359)  # the last pixels are inside


def opened(*regions: Dataset, picture: np.ndarray | None = None) -> Scan:
    return Scan.open(ultrasound(framed(SCAN) if picture is None else picture, SequenceOfUltrasoundRegions=[*regions]))


def test_the_scan_is_cut_from_the_machines_frame():
    scan = opened(region(*EDGES))
    np.testing.assert_array_equal(scan.pixels, SCAN)
    assert scan.region == (90, 60, 490, 360)
    assert scan.mm_per_pixel == pytest.approx(0.1)
    assert scan.notes == ("scan area cut out as its header says, 400 x 300 of 640 x 480 pixels",)


def test_colour_and_clips_are_cut_too():
    colour = np.stack([SCAN, SCAN, SCAN // 2], axis=-1)
    np.testing.assert_array_equal(opened(region(*EDGES), picture=framed(colour)).pixels, colour)
    clip = ultrasound(framed(SCAN), frames=3, SequenceOfUltrasoundRegions=[region(*EDGES)])
    for frame in (0, 2):
        np.testing.assert_array_equal(Scan.open(clip, frame=frame).pixels, SCAN)


def test_without_a_region_nothing_changes():
    scan = Scan.open(ultrasound(framed(SCAN)))
    np.testing.assert_array_equal(scan.pixels, framed(SCAN))
    assert (scan.region, scan.mm_per_pixel, scan.notes) == (None, None, ())


def test_a_region_of_the_whole_picture_cuts_nothing():
    for right, bottom in ((399, 299), (400, 300)):  # some machines name the pixel after the last
        scan = opened(region(0, 0, right, bottom), picture=SCAN)
        np.testing.assert_array_equal(scan.pixels, SCAN)
        assert (scan.region, scan.notes) == (None, ())
        assert scan.mm_per_pixel == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("regions", "why"),
    [
        ([], "is empty"),
        ([region(*EDGES), region(0, 0, 99, 99, RegionSpatialFormat=3)], "is one of 2"),
        ([region(*EDGES, RegionSpatialFormat=2)], "is not one of B-mode tissue"),
        ([region(*EDGES, RegionDataType=2)], "is not one of B-mode tissue"),
        ([region(*EDGES, RegionDataType=None)], "cannot be read"),
        ([region(*EDGES, RegionLocationMaxX1=None)], "cannot be read"),
        ([region(90, 60, 641, 359)], "does not lie in the picture"),
        ([region(90, 60, 2**32 - 1, 359)], "does not lie in the picture"),
        ([region(489, 359, 90, 60)], "does not lie in the picture"),
        ([region(90, 60, 150, 100)], "is too small for a scan"),
        ([region(90, 60, 600, 62)], "is too small for a scan"),
        ([region(90, 200, 489, 359)], "leaves out much of the picture"),
        ([region(*EDGES, ManufacturerModelName="x" * 70_000)], "is far too large"),
    ],
)
def test_what_is_not_plain_is_ignored_with_a_note(regions, why):
    scan = opened(*regions)
    np.testing.assert_array_equal(scan.pixels, framed(SCAN))
    assert scan.region is None
    assert scan.notes == (f"ultrasound region of its header ignored: it {why}",)
