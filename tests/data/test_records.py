from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcx.data.records import Record, load_mask
from bcx.errors import DataError


def record(*masks: Path) -> Record:
    return Record(Path("a.png"), "mine/a.png", "benign", "mine:a", "mine", masks)


def box(left, top, right, bottom, size=(48, 40)):
    mask = np.zeros((size[1], size[0]), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_masks_are_merged(tmp_path, draw_mask):
    masks = draw_mask(tmp_path / "a_mask.png", (2, 3, 10, 9)), draw_mask(tmp_path / "a_mask_1.png", (8, 5, 30, 20))
    mask = load_mask(record(*masks), (40, 48, 3))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, box(2, 3, 10, 9) | box(8, 5, 30, 20))


def test_no_mask_is_none_but_a_black_one_is_not():
    assert load_mask(record(), (40, 48)) is None


def test_a_black_mask_is_empty(tmp_path, draw_mask):
    mask = load_mask(record(draw_mask(tmp_path / "m.png", (0, 0, 0, 0))), (40, 48))
    assert mask is not None
    assert not mask.any()


@pytest.mark.parametrize("white", [1, 2, 255])
def test_masks_of_class_numbers_count_as_masks_of_ink(tmp_path, draw_mask, white):
    mask = load_mask(record(draw_mask(tmp_path / "m.png", (4, 4, 20, 30), white=white)), (40, 48))
    np.testing.assert_array_equal(mask, box(4, 4, 20, 30))


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA"])
def test_modes_agree(tmp_path, mode):
    image = Image.fromarray(np.where(box(4, 4, 20, 30), 255, 0).astype(np.uint8)).convert(mode)
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(record(tmp_path / "m.png"), (40, 48)), box(4, 4, 20, 30))


@pytest.mark.parametrize("white", [1, 65535])
def test_sixteen_bits(tmp_path, white):
    Image.fromarray((box(4, 4, 20, 30) * white).astype(np.uint16)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(record(tmp_path / "m.png"), (40, 48)), box(4, 4, 20, 30))


def test_jpeg_noise_is_not_lesion(tmp_path):
    image = Image.fromarray(np.where(box(8, 8, 24, 32), 255, 0).astype(np.uint8))
    image.save(tmp_path / "m.jpg", quality=60)
    mask = load_mask(record(tmp_path / "m.jpg"), (40, 48))
    assert np.mean(mask != box(8, 8, 24, 32)) < 0.02


def test_a_mask_turned_by_exif_fits_its_turned_scan(tmp_path):
    upright = box(4, 4, 20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    stored = np.rot90(np.where(upright, 255, 0).astype(np.uint8))
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "m.png", exif=exif)
    np.testing.assert_array_equal(load_mask(record(tmp_path / "m.png"), (40, 48)), upright)


def test_another_size_names_the_mask_and_both_sizes(tmp_path, draw_mask):
    file = draw_mask(tmp_path / "lesion_mask.png", (0, 0, 5, 5), size=(40, 48))
    with pytest.raises(DataError, match=r"'lesion_mask\.png' has 40 x 48 pixels, its scan 48 x 40"):
        load_mask(record(file), (40, 48))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_a_broken_mask_is_named(tmp_path, content):
    (tmp_path / "lesion_mask.png").write_bytes(content)
    with pytest.raises(DataError, match=r"lesion_mask\.png") as caught:
        load_mask(record(tmp_path / "lesion_mask.png"), (40, 48))
    assert str(tmp_path) not in caught.value.found
