"""Corruptions: always the same, always readable, each does what its sentence says; the study counts what they cost."""

import re
from itertools import pairwise

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from bcx.data.readers import read_source
from bcx.errors import DataError
from bcx.evaluate.corruptions import CORRUPTIONS, draw_calipers, find_marks, suite_fingerprint, write_text
from bcx.simulate import simulate
from bcx.studies.corruptions import (
    CLEAN,
    corruption_frame,
    lesion_score,
    read_corruption_frame,
    summarise_corruptions,
    write_corruption_frame,
    write_corruption_sheet,
)
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")
each = pytest.mark.parametrize("corruption", CORRUPTIONS, ids=lambda c: c.name)
get_corruption = {c.name: c for c in CORRUPTIONS}.__getitem__
MOVES, SHADES = CORRUPTIONS[:9], CORRUPTIONS[9:]


@pytest.fixture(scope="module")
def scan():
    return simulate("malignant", 8, 280, 340)


def box(mask):
    """Left, top, right, bottom of what is True."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def sides(mask):
    left, top, right, bottom = box(mask)
    return right - left, bottom - top


# ---------------------------------------------------------------- what holds for all


def test_names_are_distinct_and_sentences_are_sentences():
    assert len({c.name for c in CORRUPTIONS}) == len(CORRUPTIONS)
    for corruption in CORRUPTIONS:
        assert re.fullmatch(r"[a-z][a-z-]+[a-z]", corruption.name)
        assert corruption.sentence.endswith(".")


@each
def test_the_same_scan_is_changed_the_same_way_and_not_written_to(corruption, scan):
    before = scan.pixels.copy()
    frozen = scan.pixels.copy()
    frozen.flags.writeable = False  # as Scan hands it out
    first, mask = corruption(frozen, scan.mask)
    second, again = corruption(scan.pixels, scan.mask)
    assert first.dtype == np.uint8
    assert mask.dtype == np.bool_
    assert first.shape == mask.shape
    assert np.array_equal(first, second)
    assert np.array_equal(mask, again)
    assert np.array_equal(scan.pixels, before)


@each
def test_the_lesion_stays_in_the_picture(corruption, scan):
    mask = corruption(scan.pixels, scan.mask)[1]
    area = mask.sum() / scan.mask.sum()
    assert area == 1 or corruption.name in ("squeezed", "stretched", "sector")
    assert 0.7 < area < 1.4


@each
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_lesion_in_a_corner_stays_too(corruption, corner):
    pixels, mask = np.full((90, 120), 80, np.uint8), np.zeros((90, 120), bool)
    mask[slice(72, 90) if corner[0] else slice(0, 18), slice(95, 120) if corner[1] else slice(0, 25)] = True
    changed = corruption(pixels, mask)[1]
    wide, tall = sides(changed)
    assert changed.any()
    if corruption.name != "sector":
        assert tall == 18
        assert abs(wide - 25 * {"squeezed": 3 / 4, "stretched": 4 / 3}.get(corruption.name, 1)) <= 1


@each
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_grey_picture_is_changed_without_fault(corruption, data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    chance = np.random.default_rng(data.draw(st.integers(0, 99)))
    top = data.draw(st.sampled_from([0, 1, 255]))
    pixels = chance.integers(0, top, (height, width), dtype=np.uint8, endpoint=True)
    mask = chance.random((height, width)) < data.draw(st.sampled_from([0, 0.2, 1]))
    changed, moved = corruption(pixels, mask)
    assert changed.dtype == np.uint8
    assert changed.shape == moved.shape
    assert min(changed.shape) >= 1
    assert np.array_equal(corruption(pixels, mask)[0], changed)
    assert corruption(pixels)[1] is None
    if corruption in SHADES:
        assert changed.shape == pixels.shape
        assert moved is mask


@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (3, 1000)])
@each
def test_strips_are_changed_too(corruption, shape):
    assert corruption(np.full(shape, 120, np.uint8))[0].size


@each
def test_what_is_no_grey_plane_is_refused(corruption):
    for wrong in (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8)), np.zeros((0, 8), np.uint8)):
        with pytest.raises(DataError, match=corruption.name):
            corruption(wrong)
    with pytest.raises(DataError, match="mask"):
        corruption(np.zeros((8, 8), np.uint8), np.zeros((8, 9), bool))


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize(("name", "share"), [("zoom-out", 0.7), ("zoom-out-far", 0.5)])
def test_zooming_out_puts_the_scan_as_it_is_on_black(scan, name, share):
    pixels, mask = get_corruption(name)(scan.pixels, scan.mask)
    assert np.allclose(np.array(scan.pixels.shape) / pixels.shape, share, atol=0.01)
    top, left = ((a - b) // 2 for a, b in zip(pixels.shape, scan.pixels.shape, strict=True))
    inside = pixels[top : top + 280, left : left + 340]
    assert np.array_equal(inside, scan.pixels)
    assert pixels.sum(dtype=int) == inside.sum(dtype=int)
    assert np.array_equal(mask[top : top + 280, left : left + 340], scan.mask)


def test_zooming_in_keeps_three_quarters_and_grows_for_a_large_lesion(scan):
    pixels, _ = get_corruption("zoom-in")(scan.pixels, scan.mask)
    assert pixels.shape == (210, 255)
    large = np.zeros_like(scan.mask)
    large[20:270, 40:200] = True
    pixels, mask = get_corruption("zoom-in")(scan.pixels, large)
    assert mask.sum() == large.sum()
    assert pixels.shape[1] / pixels.shape[0] == pytest.approx(340 / 280, rel=0.02)


def test_cropping_takes_black_margins_off(scan):
    framed = cv2.copyMakeBorder(scan.pixels, 40, 60, 50, 30, cv2.BORDER_CONSTANT, value=0)
    mask = cv2.copyMakeBorder(scan.mask.astype(np.uint8), 40, 60, 50, 30, cv2.BORDER_CONSTANT, value=0) > 0
    pixels, kept = get_corruption("crop")(framed, mask)
    assert pixels.shape[0] < 280
    assert pixels.shape[1] < 340
    assert (pixels < 3).mean() < 0.6 * (framed < 3).mean()
    assert kept.sum() == mask.sum()
    assert get_corruption("crop")(np.zeros((50, 60), np.uint8))[0].shape == (50, 60)


@pytest.mark.parametrize(("name", "factor"), [("squeezed", 0.75), ("stretched", 4 / 3)])
def test_aspect_changes_the_width_of_the_lesion_and_not_its_height(scan, name, factor):
    pixels, mask = get_corruption(name)(scan.pixels, scan.mask)
    assert pixels.shape == scan.pixels.shape
    wide, tall = sides(mask)
    assert wide / sides(scan.mask)[0] == pytest.approx(factor, rel=0.03)
    assert tall == sides(scan.mask)[1]


def test_a_shallow_scan_is_cut_below_and_only_there():
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[:, None], 100, axis=1)
    assert np.array_equal(get_corruption("shallow")(ramp)[0], ramp[:140])
    deep = np.zeros(ramp.shape, bool)
    deep[150:180, 40:60] = True
    assert 180 < get_corruption("shallow")(ramp, deep)[0].shape[0] < 200


def test_a_screen_is_black_to_the_right_and_below(scan):
    pixels, _ = get_corruption("screen")(scan.pixels)
    assert pixels.shape == (392, 476)
    assert not pixels[28 + 280 :].any()
    assert not pixels[:, 17 + 340 :].any()
    assert np.array_equal(pixels[28 : 28 + 280, 17 : 17 + 340], scan.pixels)


def test_a_sector_keeps_everything_between_its_edges():
    bright = np.full((280, 340), 200, np.uint8)
    fan, _ = get_corruption("sector")(bright)
    corners = fan[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert not corners.any()
    rows = (fan > 100).sum(axis=1)
    assert rows[len(rows) // 2] > 1.4 * rows[len(rows) // 10]  # wider with depth
    assert (fan > 100).sum() == pytest.approx(bright.size, rel=0.06)  # the arc in the middle has the scan's width
    columns = np.tile(np.arange(340) // 85 * 60 + 20, (280, 1)).astype(np.uint8)
    middle = get_corruption("sector")(columns)[0][fan.shape[0] // 2]
    assert all(a <= b for a, b in pairwise(middle[middle > 0][3:-3].astype(int)))  # nothing swaps sides


# ---------------------------------------------------------------- grey values


def high_frequencies(pixels):
    return float(np.abs(cv2.Laplacian(pixels.astype(np.float32), cv2.CV_32F)).mean())


def test_gamma_moves_the_middle_tones_and_leaves_black_and_white():
    ramp = np.arange(256, dtype=np.uint8)[None]
    darker, brighter = (get_corruption(name)(ramp)[0][0] for name in ("darker", "brighter"))
    assert darker[[0, 255]].tolist() == brighter[[0, 255]].tolist() == [0, 255]
    assert darker[128] == round(255 * (128 / 255) ** 1.6)
    assert brighter[128] == round(255 * (128 / 255) ** 0.6)
    assert (np.diff(darker.astype(int)) >= 0).all()


@pytest.mark.parametrize(("name", "factor"), [("contrast-low", 0.6), ("contrast-high", 1.6)])
def test_contrast_scales_the_spread_about_the_tissues_mean(name, factor):
    pixels = np.random.default_rng(0).normal(110, 15, (200, 200)).clip(20, 220).astype(np.uint8)
    changed = get_corruption(name)(pixels)[0]
    assert changed.std() / pixels.std() == pytest.approx(factor, rel=0.03)
    assert changed.mean() == pytest.approx(pixels.mean(), abs=1)


def test_depth_gain_darkens_downwards():
    changed = get_corruption("depth-gain")(np.full((101, 50), 200, np.uint8))[0]
    assert changed[0, 0] == 200
    assert changed[50, 0] == pytest.approx(145, abs=1)
    assert changed[-1, 0] == 90


def test_blur_takes_fine_detail_away(scan):
    changed = get_corruption("blur")(scan.pixels)[0]
    assert high_frequencies(changed) < 0.5 * high_frequencies(scan.pixels)
    assert changed.mean() == pytest.approx(scan.pixels.mean(), abs=1)


def test_speckle_multiplies_and_differs_from_scan_to_scan():
    flat = np.full((300, 300), 100, np.uint8)
    flat[:, 150:] = 0
    changed = get_corruption("speckle")(flat)[0]
    assert not changed[:, 150:].any()
    assert changed[:, :150].std() == pytest.approx(20, rel=0.1)
    assert changed[:, :150].mean() == pytest.approx(100, abs=1)
    other = get_corruption("speckle")(np.full((300, 300), 100, np.uint8))[0]
    assert not np.array_equal(changed[:, :150], other[:, :150])


def test_jpeg_leaves_little_to_store(scan):
    size = {
        name: len(cv2.imencode(".png", pixels)[1])
        for name, pixels in {"before": scan.pixels, "after": get_corruption("jpeg")(scan.pixels)[0]}.items()
    }
    assert size["after"] < 0.7 * size["before"]


# ---------------------------------------------------------------- marks


@pytest.fixture(scope="module")
def marked(scan):
    """A scan with text and calipers on it, and where they are."""
    chance = np.random.default_rng(1)
    pixels = draw_calipers(write_text(scan.pixels, scan.mask, 0.05, chance), None, 0.02, chance)
    return pixels, pixels != scan.pixels


def test_marks_are_found_and_tissue_is_not(scan, marked):
    pixels, there = marked
    found = find_marks(pixels)
    strong = there & (pixels > 220)
    assert found[strong].mean() > 0.85
    assert (found & ~there).mean() < 0.001
    assert find_marks(scan.pixels).mean() < 0.001


def test_removed_marks_leave_what_was_around_them(scan, marked):
    pixels, there = marked
    changed = get_corruption("marks-removed")(pixels)[0]
    before, after = (np.abs(p[there].astype(int) - scan.pixels[there]).mean() for p in (pixels, changed))
    assert after < 0.25 * before
    near = cv2.dilate(find_marks(pixels).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    assert np.array_equal(changed[~near], pixels[~near])
    assert find_marks(changed).sum() < 0.1 * find_marks(pixels).sum()


def test_inverted_marks_are_dark(scan, marked):
    pixels, there = marked
    changed = get_corruption("marks-inverted")(pixels)[0]
    strong = there & find_marks(pixels)
    assert np.array_equal(changed[strong], 255 - pixels[strong])
    assert changed[strong].max() <= 65


def test_a_scan_without_marks_stays_as_it_is():
    plain = np.full((90, 120), 70, np.uint8)
    for name in ("marks-removed", "marks-inverted"):
        assert np.array_equal(get_corruption(name)(plain)[0], plain)


@pytest.mark.parametrize("name", ["text-added", "calipers-added"])
def test_added_marks_are_white_small_and_keep_off_the_lesion(scan, name):
    changed = get_corruption(name)(scan.pixels, scan.mask)[0]
    there = changed != scan.pixels
    assert 0.0005 < there.mean() < 0.05
    assert (changed[there] >= scan.pixels[there]).all()
    assert changed[there].max() == 255
    assert not (there & scan.mask).any()


def test_text_differs_from_scan_to_scan():
    first, second = (get_corruption("text-added")(np.full((280, 340), grey, np.uint8))[0] for grey in (60, 61))
    assert ((first > 200) != (second > 200)).any()


# ---------------------------------------------------------------- the study


@pytest.fixture(scope="module")
def records(busi_folder):
    return read_source("mine", busi_folder, task=TASK)


def by_brightness(pictures):
    """A made-up reader that can be led astray: the brighter, the likelier malignant; dark means normal."""
    rows = []
    for pixels in pictures:
        mean = float(pixels.mean()) / 255
        scores = np.array([1 - mean, 0.3, 2 * mean])
        rows.append(scores / scores.sum())
    return np.array(rows)


@pytest.fixture(scope="module")
def frame(records):
    return corruption_frame(by_brightness, records, TASK, fold=3)


def test_every_scan_is_answered_clean_and_under_every_change(records, frame):
    assert len(frame) == len(records) * (1 + len(CORRUPTIONS))
    assert set(frame.groupby("file")["kind"].nunique()) == {1 + len(CORRUPTIONS)}
    assert set(frame["fold"]) == {3}
    dark, clean = (frame[frame["kind"] == kind].set_index("file")["p_malignant"] for kind in ("darker", CLEAN))
    assert (dark < clean).all()


def test_pictures_are_taken_one_by_one(records):
    """Each file is opened only when its turn comes, so that memory does not grow with the number of scans."""
    opened = []

    class Counted:
        def __getattr__(self, name):
            if name == "file":
                opened.append(self)
            return getattr(records[0], name)

    def answer(pictures):
        for number, _ in enumerate(pictures):
            assert len(opened) == 1 + number // (1 + len(CORRUPTIONS))
        return np.full((4 * (1 + len(CORRUPTIONS)), 3), 1 / 3)

    corruption_frame(answer, [Counted() for _ in range(4)], TASK)


@pytest.mark.slow
def test_the_summary_is_that_of_independent_arithmetic(records, frame):
    found = summarise_corruptions(frame, TASK)
    assert (found["n"], found["groups"], found["suite"]) == (12, 12, suite_fingerprint())
    assert [row["kind"] for row in found["kinds"]] == [c.name for c in CORRUPTIONS]
    parts = dict(iter(frame.groupby("kind")))
    for row in found["kinds"]:
        part, clean = parts[row["kind"]], parts[CLEAN]
        labels = part["label"].map(TASK.classes.index).to_numpy()
        for name, figure, reference in (("kind", row, part), (CLEAN, found[CLEAN], clean)):
            probabilities = reference[[f"p_{c}" for c in TASK.classes]].to_numpy()
            macro = roc_auc_score(labels, probabilities, multi_class="ovr")
            lesions = labels > 0
            ratio = probabilities[lesions, 2] / probabilities[lesions, 1]
            assert figure["macro_auc"]["value"] == pytest.approx(macro), name
            assert figure["lesion_auc"]["value"] == pytest.approx(roc_auc_score(labels[lesions] == 2, ratio)), name
            assert figure["accuracy"]["value"] == pytest.approx((probabilities.argmax(1) == labels).mean()), name
        for name, drop in row["drop"].items():
            assert drop["value"] == pytest.approx(found[CLEAN][name]["value"] - row[name]["value"])
            assert drop["low"] <= drop["high"]
    for name, mean in found["mean_drop"].items():
        assert mean["value"] == pytest.approx(np.mean([row["drop"][name]["value"] for row in found["kinds"]]))


def test_a_reader_that_nothing_disturbs_drops_nowhere(records):
    """Drops are paired: where no answer changes, the drop is 0 in every resample, however wide the AUC's interval."""
    names = iter([r.key for r in records for _ in range(1 + len(CORRUPTIONS))])

    def steady(pictures):
        rows = [{"n": [8, 1, 1], "b": [1, 8, 1], "m": [1, 4, 5]}[next(names).split("/")[1][0]] for _ in pictures]
        return np.array(rows) / 10

    found = summarise_corruptions(corruption_frame(steady, records, TASK), TASK)
    for row in found["kinds"]:
        assert all(drop == {"value": 0, "low": 0, "high": 0} for drop in row["drop"].values())


def test_the_table_survives_its_file(frame, tmp_path):
    write_corruption_frame(tmp_path / "corrupted.csv", frame)
    again = read_corruption_frame(tmp_path / "corrupted.csv", TASK)
    pd.testing.assert_frame_equal(again, frame, rtol=1e-6, check_like=True)
    (tmp_path / "other.csv").write_text("kind,file\n")
    for wrong in ("other.csv", "none.csv"):
        with pytest.raises(DataError, match=wrong):
            read_corruption_frame(tmp_path / wrong, TASK)


def test_tables_with_gaps_are_refused(frame):
    with pytest.raises(DataError, match="every scan once"):
        summarise_corruptions(frame[frame["kind"] != "jpeg"], TASK)
    with pytest.raises(DataError, match="every scan once"):
        summarise_corruptions(frame.iloc[1:], TASK)


@pytest.mark.slow
def test_without_normals_and_with_one_class_figures_say_so(frame):
    lesions = summarise_corruptions(frame[frame["label"] != "normal"], TASK)
    assert lesions[CLEAN]["lesion_auc"]["value"] == pytest.approx(
        summarise_corruptions(frame, TASK)[CLEAN]["lesion_auc"]["value"]
    )
    benign = summarise_corruptions(frame[frame["label"] == "benign"], TASK)
    assert benign["mean_drop"]["macro_auc"] == {"value": None, "low": None, "high": None}
    assert benign["mean_drop"]["accuracy"]["value"] is not None


def test_the_lesion_score_ignores_the_absent_class():
    scores = lesion_score(np.array([[0.9, 0.02, 0.08], [0.1, 0.18, 0.72]]), TASK)
    assert scores == pytest.approx(np.log([4, 4]))


def test_a_sheet_shows_every_change(scan, tmp_path):
    write_corruption_sheet(scan.pixels, tmp_path / "sheet.png", scan.mask)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] > 1000
    assert len(np.unique(sheet)) > 50


def test_the_page_about_the_suite_names_every_change(root):
    page = (root / "docs/explanation/transfer.md").read_text("utf-8")
    assert [f"| `{c.name}` | {c.sentence} |" for c in CORRUPTIONS] == re.findall(r"^\| `[a-z-]+` \| .* \|$", page, re.M)
    assert f"each of {len(CORRUPTIONS)} fixed changes" in page
    assert (root / "docs/images/corruptions.png").stat().st_size < 300_000
