"""Plain checks: what needs no network is stopped, scans in grey, with marks or tinted pass, and it is quick."""

import time

import cv2
import numpy as np
import pytest

from bcx.evaluate import non_scans
from bcx.imaging.scan import Scan
from bcx.simulate import LABELS, simulate
from bcx.simulate.histology import simulate_patch
from bcx.tasks import get_task
from bcx.trust.plain import BLANK_RANGE, COLOUR_SHARE, TINY, plain_checks


def checked(pixels):
    return plain_checks(Scan.open(np.clip(pixels, 0, 255).astype(np.uint8), "picture"))


@pytest.fixture(scope="module")
def scan():
    return simulate("benign", seed=5, height=400, width=480).pixels


def in_colour(grey):
    return np.repeat(grey[:, :, None], 3, axis=2)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("seed", range(3))
def test_simulated_scans_pass_without_a_word(label, seed):
    assert checked(simulate(label, seed, height=360, width=440).pixels) == ([], [])


@pytest.mark.parametrize("factor", [0.35, 1, 3])
def test_the_answer_does_not_hang_on_the_size(scan, factor):
    size = (round(480 * factor), round(400 * factor))
    assert checked(cv2.resize(scan, size, interpolation=cv2.INTER_AREA)) == ([], [])


def test_a_dimmed_and_a_bright_scan_pass(scan):
    assert checked(scan * 0.5)[0] == []
    assert checked(scan.astype(float) * 1.3)[0] == []


@pytest.mark.parametrize("level", [0, 90, 255])
def test_one_tone_is_blank_and_nothing_else_is_said_of_it(level):
    reasons, flags = checked(np.full((300, 400), level))
    assert len(reasons) == 1
    assert "blank" in reasons[0]
    assert flags == []


def test_blank_begins_where_the_range_of_greys_ends():
    ramp = np.tile(np.linspace(0, 1, 400), (300, 1))
    assert "blank" in checked(100 + 0.9 * BLANK_RANGE * ramp)[0][0]
    assert not any("blank" in reason for reason in checked(100 + 1.2 * BLANK_RANGE * ramp)[0])


def test_tiny_names_width_and_height(scan):
    small = cv2.resize(scan, (200, TINY - 1), interpolation=cv2.INTER_AREA)
    assert f"200 x {TINY - 1}" in checked(small)[0][0]
    assert checked(cv2.resize(scan, (200, TINY), interpolation=cv2.INTER_AREA)) == ([], [])


def test_strong_colours_are_named(scan):
    rng = np.random.default_rng(0)
    photograph = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), (480, 400))
    reasons, _ = checked(photograph)
    assert "colours" in reasons[0]
    assert "photograph" in reasons[0]
    grey = photograph @ np.array([0.299, 0.587, 0.114])
    assert not any("colours" in reason for reason in checked(grey)[0])


@pytest.mark.parametrize(("share", "said"), [(0.02, True), (0.8 * COLOUR_SHARE, True), (0.0, False)])
def test_a_coloured_part_is_a_flag_and_no_reason(scan, share, said):
    pixels = in_colour(scan)
    rng = np.random.default_rng(1)
    rows = round(share * 400)
    pixels[400 - rows :, :, :] = rng.choice([[220, 30, 20], [20, 40, 220]], (rows, 480)) if rows else 0
    reasons, flags = checked(pixels)
    assert reasons == []
    assert bool(flags) is said
    if said:
        assert "coloured parts" in flags[0]


def test_more_colour_than_a_doppler_box_is_a_reason(scan):
    pixels = in_colour(scan)
    rng = np.random.default_rng(1)
    pixels[:260] = cv2.resize(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8), (480, 260))
    assert "colours" in checked(pixels)[0][0]


def test_a_tinted_scan_passes_with_a_flag(scan):
    bright = 90 + 0.6 * in_colour(scan)
    reasons, flags = checked(bright * [1.0, 0.75, 0.35])  # sepia, as some machines show it
    assert reasons == []
    assert "tinted" in flags[0]


@pytest.mark.parametrize("inverted", [False, True])
def test_pages_plots_and_screens(inverted):
    sheets = [p for p in non_scans.documents() if p.kind in ("document: text", "document: plot", "document: screen")]
    assert len(sheets) == 18
    stopped = [bool(checked(255 - p.pixels if inverted else p.pixels)[0]) for p in sheets]
    if not inverted:
        assert all(stopped)
    else:  # on black, flat areas say nothing: scans have them too; the distance stops those
        assert not all(stopped)


def test_grey_and_colour_of_the_same_picture_agree():
    page = next(p.pixels for p in non_scans.documents() if p.kind == "document: table")
    grey = np.rint(page @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    assert checked(grey)[0] == checked(in_colour(grey))[0] != []


@pytest.mark.parametrize("colour", [False, True])
def test_it_takes_milliseconds(scan, colour):
    large = cv2.resize(scan, (500, 500))
    opened = Scan.open(np.dstack([large, large, 255 - large]) if colour else large, "picture")
    times = []
    for _ in range(20):
        started = time.perf_counter()
        plain_checks(opened)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.01  # 1 ms on an idle core; the rest is for busy machines


# ---- stained tissue

CELLS = get_task("histology-idc")


@pytest.mark.parametrize("kind", ["negative", "positive"])
def test_stained_tissue_passes_and_loses_it_with_its_colours(kind):
    for seed in range(6):
        pixels = simulate_patch(kind, seed, 100)
        assert plain_checks(Scan.open(pixels), CELLS)[0] == []
        green_for_red = np.ascontiguousarray(pixels[..., [1, 0, 2]])
        for other in (green_for_red, pixels.mean(2).astype(np.uint8)):
            assert "haematoxylin" in plain_checks(Scan.open(other), CELLS)[0][0]


def test_scans_photographs_and_documents_are_no_tissue(scan):
    from bcx.evaluate.non_scans import documents, packaged

    wrong = [picture.pixels for part in (packaged(), documents()) for picture in part] + [scan]
    stopped = [bool(plain_checks(Scan.open(pixels), CELLS)[0]) for pixels in wrong]
    assert len(stopped) > 100
    assert np.mean(stopped) >= 0.95
