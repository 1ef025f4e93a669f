"""Looks that no scan of a breast has: fans, split screens, ripples and even speckle are told from scans, alone."""

import cv2
import numpy as np
import pytest

from bcx.evaluate.corruptions import CORRUPTIONS
from bcx.simulate import LABELS, simulate
from bcx.simulate.organs import CONVEX, LINEAR, ORGANS, PHASED, simulate_organ
from bcx.trust.plain import COLOUR_PART, RIPPLE, is_even, is_fan, is_split, look_reasons, ripple


@pytest.fixture(scope="module", params=LABELS)
def scan(request):
    return simulate(request.param, seed=7, height=400, width=480).pixels


def bent(scan):
    """As a convex probe shows it, by the transform that the robustness study uses."""
    corruption = next(each for each in CORRUPTIONS if each.name == "sector")
    return corruption.change(scan, None, corruption.strength, None)(scan)


def test_a_scan_bent_to_a_sector_is_a_fan_and_nothing_else(scan):
    fan = bent(scan)
    assert is_fan(fan)
    assert not is_fan(scan)
    assert not is_split(fan)


def test_beams_that_spread_from_a_flat_probe_are_no_fan(scan):
    height, width = scan.shape
    sides = np.array([[0.2 * width, 0], [0.8 * width, 0], [width, height], [0, height]], np.int32)
    spread = np.where(cv2.fillPoly(np.zeros_like(scan), [sides], 1) > 0, scan, 0)
    assert look_reasons(spread) == []


@pytest.mark.parametrize("gutter", [0, 6])
def test_two_scans_in_one_picture(scan, gutter):
    other = simulate("normal", seed=31, height=400, width=480).pixels
    between = np.zeros((400, gutter), np.uint8)
    assert is_split(np.hstack([scan, between, other]))
    assert is_split(np.hstack([scan, between, other]).T.copy())
    assert not is_split(np.hstack([scan, scan[:, ::-1]]))  # mirrored at its edge, a scan goes on without a jump


@pytest.mark.parametrize("factor", [1.5, 2, 3])
def test_a_scan_enlarged_by_repeating_pixels_is_not_split(scan, factor):
    large = cv2.resize(scan, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    assert look_reasons(large) == []


@pytest.mark.parametrize(("angle", "slants"), [(0.6, True), (2.2, True), (0.0, False), (np.pi / 2, False)])
def test_a_wave_across_the_picture_ripples_where_it_slants(scan, angle, slants):
    y, x = np.mgrid[0 : scan.shape[0], 0 : scan.shape[1]]
    wave = 12 * np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / 5)
    waved = np.clip(scan + wave, 0, 255).astype(np.uint8)
    assert (ripple(waved) > RIPPLE) is slants
    assert ripple(scan) < RIPPLE / 2


def test_white_noise_has_no_ripple():
    # The power of one frequency is exponential: of N, the largest is about ln N times the mean.
    noise = np.random.default_rng(0).normal(128, 30, (300, 300)).clip(0, 255).astype(np.uint8)
    assert 5 < ripple(noise) < 2.5 * np.log(256**2)


def test_even_speckle_is_a_phantoms(scan):
    rng = np.random.default_rng(0)
    assert is_even((90 * rng.rayleigh(1, (400, 480)) / 1.25).clip(0, 255).astype(np.uint8))
    assert not is_even(scan)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ORGANS)
@pytest.mark.parametrize("probe", [CONVEX, PHASED], ids=["convex", "phased"])
def test_every_organ_through_a_curved_probe_is_a_fan(kind, probe):
    pixels = simulate_organ(kind, 3, probe=probe)
    assert is_fan(pixels)
    assert np.array_equal(pixels, simulate_organ(kind, 3, probe=probe))
    assert not is_fan(simulate_organ(kind, 3, probe=LINEAR))


@pytest.mark.parametrize("share", [0.5 * COLOUR_PART, 2 * COLOUR_PART, 0.3])
def test_marks_in_colour_pass_and_flow_does_not(scan, share):
    pixels = np.repeat(scan[..., None], 3, axis=2)
    rows, columns = (round(np.sqrt(share) * side) for side in scan.shape)
    pixels[100 : 100 + rows, 50 : 50 + columns] = (220, 30, 20)
    reasons = look_reasons(pixels)
    assert bool(reasons) is (share > COLOUR_PART)
    assert all("colour over the grey" in reason for reason in reasons)


def test_colour_that_wanders_is_a_photographs_and_a_tint_is_a_scanners(scan):
    grey = 0.8 * np.repeat(scan[..., None], 3, axis=2)
    across = 0.1 * np.sign(np.linspace(-1, 1, scan.shape[1]))[None, :, None] * [1, 0, -1]
    assert "faint colours" in look_reasons((40 + grey * (1 + across)).astype(np.uint8))[0]
    for tint in ([0.92, 0.96, 1.0], [1.0, 0.75, 0.35]):
        assert look_reasons((grey * tint).astype(np.uint8)) == []
