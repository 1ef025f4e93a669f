"""Views: plane and mask move together, the enlarged ones show the lesion larger, and chance is the seed's alone."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.measure import block_reduce
from torch.utils.data import default_collate

from bcx.data.records import Record
from bcx.imaging.crop import CONTEXT
from bcx.imaging.preprocess import Preprocess
from bcx.imaging.scan import Scan
from bcx.tasks import get_task
from bcx.train.heads import _BOX_LARGER, _BOX_SHIFT, _BOX_SMALLER, _FREE_SIDE, LesionDataset, ViewOf

TASK = get_task("breast-ultrasound")
NORMAL, BENIGN, MALIGNANT = range(3)
STEP = Preprocess(size=96)
#: Records of `records`, by what is special about them.
SMALL, LONG, NO_LESION, NO_MASK, ELSEWHERE = range(5)


def write(folder, name, pixels, label, source, mask=None) -> Record:
    file = folder / f"{name}.png"
    Image.fromarray(pixels).save(file)
    masks = ()
    if mask is not None:
        masks = (folder / f"{name}_mask.png",)
        Image.fromarray(mask.astype(np.uint8) * 255).save(masks[0])
    return Record(file, f"{source}/{name}.png", label, f"{source}:{name}", source, masks)


def draw(height, width, x, y, across, down) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipse on speckle: pixels, mask."""
    rows, columns = np.indices((height, width)) + 0.5
    mask = ((columns - x) / (across / 2)) ** 2 + ((rows - y) / (down / 2)) ** 2 <= 1
    noise = np.random.default_rng(height * width).integers(-12, 13, (height, width))
    return (np.where(mask, 210, 30) + noise).astype(np.uint8), mask


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    small, small_mask = draw(192, 192, 60, 110, 40, 30)
    long, long_mask = draw(150, 220, 120, 70, 90, 40)
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (160, 200)).copy()
    other, other_mask = draw(140, 160, 80, 80, 44, 44)
    return [
        write(folder, "small", small, "malignant", "first", small_mask),
        write(folder, "long", long, "benign", "first", long_mask),
        write(folder, "ramp", ramp, "normal", "first"),
        write(folder, "bare", small, "malignant", "first"),
        write(folder, "other", other, "benign", "second", other_mask),
    ]


@pytest.fixture(scope="module")
def varied(records):
    return LesionDataset(records, TASK, STEP, augment=1.0, seed=0)


@pytest.fixture(scope="module")
def plain(records):
    return LesionDataset(records, TASK, STEP, augment=0.0, seed=0)


def look(dataset, record, enlarged=False, epoch=0):
    dataset.epoch = epoch
    return dataset[ViewOf(record, enlarged)]


# One view.


def test_without_augmentation_a_whole_view_is_what_serving_sees(plain, records):
    for number, record in enumerate(records):
        view = look(plain, number)
        assert np.array_equal(view.plane, STEP.plane(Scan.open(record.file).pixels))
        assert TASK.classes[view.label] == record.label


def test_a_mask_is_the_share_of_each_place_that_is_lesion(plain, records):
    stored = np.asarray(Image.open(records[SMALL].masks[0])) > 0
    shares = block_reduce(stored, (16, 16), np.mean)  # 192 pixels are 96 of the network's are 12 places
    mask = look(plain, SMALL).mask
    assert (mask.shape, mask.dtype) == ((12, 12), np.float32)
    assert mask.max() > 0.9
    np.testing.assert_allclose(mask, shares, atol=0.15)  # the 96 pixels in between take one of four each
    assert mask.sum() == pytest.approx(shares.sum(), rel=0.05)


@pytest.mark.parametrize("enlarged", [False, True], ids=["whole", "enlarged"])
@pytest.mark.parametrize("record", [SMALL, LONG, ELSEWHERE])
def test_a_bright_lesion_stays_under_its_mask(varied, record, enlarged):
    """They agree best where they lie, and less when the mask is moved by one place in any direction."""
    agreement = []
    for epoch in range(25):
        view = look(varied, record, enlarged, epoch)
        bright = block_reduce(view.plane, (8, 8), np.mean)
        assert bright[view.mask > 0.5].mean() > bright[view.mask == 0].mean() + 30
        moved = {
            (down, across): np.corrcoef(bright.ravel(), np.roll(view.mask, (down, across), (0, 1)).ravel())[0, 1]
            for down, across in product((-1, 0, 1), repeat=2)
        }
        agreement.append(moved.pop((0, 0)))
        assert agreement[-1] > max(moved.values()) + 0.05
    assert np.mean(agreement) > 0.9  # not 1, since black borders and contrast are drawn as well


def test_an_enlarged_view_shows_the_lesion_larger(varied):
    for epoch in range(10):
        whole, enlarged = (look(varied, SMALL, which, epoch).mask for which in (False, True))
        assert enlarged.mean() > 2 * whole.mean()


def test_the_box_varies_about_the_one_that_serving_would_cut(plain):
    sizes, places = [], []
    for epoch in range(60):
        view = look(plain, SMALL, True, epoch)
        across = np.flatnonzero((view.plane > 120).mean(0) > 0.04)
        sizes.append((across[-1] + 1 - across[0]) / STEP.size)
        places.append((across[-1] + 1 + across[0]) / 2 / STEP.size - 0.5)
        assert view.mask.max() == 1
    # The ellipse is 40 pixels long; the box 1.6 times that, give or take what the recipe says.
    smallest, largest = (1 / (CONTEXT * np.exp(edge)) for edge in (_BOX_LARGER, _BOX_SMALLER))
    assert smallest - 0.05 < min(sizes) < np.mean(sizes) - 0.05
    assert largest + 0.05 > max(sizes) > np.mean(sizes) + 0.05
    assert np.abs(places).max() < _BOX_SHIFT + 0.08
    assert np.ptp(places) > _BOX_SHIFT


def test_an_enlarged_view_of_a_normal_scan_is_a_part_of_it(plain):
    """On the ramp, a pixel's value is its column: what a view spans is its side."""
    spans = []
    for epoch in range(30):
        view = look(plain, NO_LESION, True, epoch)
        assert (view.label, view.has_mask) == (NORMAL, True)
        assert not view.mask.any()
        spans.append((int(view.plane.max()) - int(view.plane.min())) / 160)
    assert _FREE_SIDE[0] - 0.03 < min(spans) < 0.5
    assert 0.65 < max(spans) < _FREE_SIDE[1] + 0.03


def test_a_scan_without_a_mask_is_only_shown_whole(plain, varied):
    whole, enlarged = look(plain, NO_MASK), look(plain, NO_MASK, True)
    assert np.array_equal(whole.plane, enlarged.plane)
    for view in (whole, enlarged, look(varied, NO_MASK, True)):
        assert (view.label, view.has_mask) == (MALIGNANT, False)
        assert not view.mask.any()


def test_large_scans_are_kept_smaller_without_being_seen_otherwise(tmp_path):
    rows, columns = np.indices((900, 1300))
    pixels = (127 + 60 * np.sin(columns / 90) + 60 * np.cos(rows / 120)).astype(np.uint8)
    record = write(tmp_path, "large", pixels, "normal", "first")
    view = look(LesionDataset([record], TASK, STEP, augment=0.0, seed=0), 0)
    np.testing.assert_allclose(view.plane.astype(int), STEP.plane(pixels).astype(int), atol=3)


# Chance.


def test_the_same_seed_epoch_and_view_give_the_same_pixels_whatever_was_asked_before(records, varied):
    other = LesionDataset(records, TASK, STEP, augment=1.0, seed=0)
    wanted = [ViewOf(number, enlarged) for number in range(len(records)) for enlarged in (False, True)]
    varied.epoch = other.epoch = 3
    there, back = [varied[view] for view in wanted], [other[view] for view in wanted[::-1]][::-1]
    for one, two in zip(there, back, strict=True):
        assert np.array_equal(one.plane, two.plane)
        assert np.array_equal(one.mask, two.mask)


def test_another_seed_epoch_or_repeat_gives_other_pixels(records, varied):
    varied.epoch = 0
    first = varied[ViewOf(SMALL, True)].plane
    others = [varied[ViewOf(SMALL, True, repeat=1)].plane, look(varied, SMALL, True, epoch=1).plane]
    others.append(look(LesionDataset(records, TASK, STEP, augment=1.0, seed=1), SMALL, True).plane)
    assert not any(np.array_equal(first, other) for other in others)


# The order of an epoch.


def ordered(dataset, epoch, **settings):
    dataset.epoch = epoch
    return dataset.order(**settings)


def test_balance_shows_each_source_about_as_often(varied):
    views = ordered(varied, 0, balance=True, enlarge=False)
    assert Counter(view.record for view in views) == {SMALL: 1, LONG: 1, NO_LESION: 1, NO_MASK: 1, ELSEWHERE: 4}
    assert len(set(views)) == len(views)  # each repeat is a view of its own
    once = ordered(varied, 0, balance=False, enlarge=False)
    assert sorted(view.record for view in once) == list(range(5))
    assert not any(view.enlarged for view in [*views, *once])


@pytest.mark.parametrize("balance", [False, True])
def test_every_scan_takes_turns_between_whole_and_enlarged(varied, balance):
    seen: dict[tuple[int, int], list[bool]] = {}
    for epoch in range(4):
        views = ordered(varied, epoch, balance=balance, enlarge=True)
        assert 0.3 <= np.mean([view.enlarged for view in views]) <= 0.7
        for view in views:
            seen.setdefault((view.record, view.repeat), []).append(bool(view.enlarged))
    for turns in seen.values():
        assert turns in ([False, True] * 2, [True, False] * 2)
    if balance:  # within one epoch too, where a scan comes several times
        assert {seen[ELSEWHERE, repeat][0] for repeat in range(4)} == {False, True}


def test_the_order_is_the_seeds_and_the_epochs(records, varied):
    same = LesionDataset(records, TASK, STEP, augment=1.0, seed=0)
    other = LesionDataset(records, TASK, STEP, augment=1.0, seed=1)
    first = ordered(varied, 0, balance=True, enlarge=True)
    assert first == ordered(same, 0, balance=True, enlarge=True)
    assert first != ordered(other, 0, balance=True, enlarge=True)
    assert first != ordered(varied, 2, balance=True, enlarge=True)


def test_a_batch_is_stacked_and_knows_which_hospital_has_normals(varied):
    varied.epoch = 0
    batch = default_collate([varied[ViewOf(number, False)] for number in range(5)])
    assert (batch.plane.shape, batch.plane.dtype) == ((5, 96, 96), torch.uint8)
    assert (batch.mask.shape, batch.mask.dtype) == ((5, 12, 12), torch.float32)
    assert batch.label.tolist() == [MALIGNANT, BENIGN, NORMAL, MALIGNANT, BENIGN]
    assert batch.has_mask.tolist() == [True, True, True, False, True]
    assert batch.with_absent.tolist() == [True, True, True, True, False]


def test_a_lesion_with_an_empty_mask_is_somewhere_unknown(tmp_path, records):
    pixels = np.asarray(Image.open(records[SMALL].file))
    nothing = np.zeros(pixels.shape, bool)
    emptied = [
        write(tmp_path, "unoutlined", pixels, "malignant", "first", nothing),
        write(tmp_path, "healthy", pixels, "normal", "first", nothing),
    ]
    dataset = LesionDataset(emptied, TASK, STEP, augment=0.0, seed=0)
    lesion, healthy = dataset[ViewOf(0, False)], dataset[ViewOf(1, False)]
    assert (lesion.has_mask, healthy.has_mask) == (False, True)
    assert not lesion.mask.any()
    np.testing.assert_array_equal(
        dataset[ViewOf(0, True)].plane, lesion.plane
    )  # shown whole: nobody knows where to cut
    assert (dataset[ViewOf(1, True)].plane != healthy.plane).any()
