"""Which files an argument means."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcx.errors import ConfigError
from bcx.imaging.names import MASK, NO_PICTURE
from bcx.inference.input_files import find, is_mask_of


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(path)
    return path


@pytest.fixture
def scans(tmp_path, monkeypatch) -> Path:
    """A folder like those that people have; the current folder is the one above it."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", "a_mask.png", "a_mask_1.png", "face_mask.png", "deep/er/c.png"):
        picture(tmp_path / "scans" / name)
    (tmp_path / "scans" / "notes.txt").write_text("no picture")
    (tmp_path / "scans" / "noted.text").write_text("no picture either")
    (tmp_path / "scans" / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    picture(tmp_path / "scans" / "really.png").rename(tmp_path / "scans" / "really.txt")
    return tmp_path


def files(*arguments: str, **options) -> list[str]:
    return [found.file for found in find(arguments, **options).pictures]


def test_a_folder_gives_its_pictures_by_content_with_its_own_name_before_them(scans):
    listing = find(["scans"])
    expected = ["a.png", "b.png", "drawing.svg", "face_mask.png", "really.txt", "deep/er/c.png"]
    assert [found.file for found in listing.pictures] == [f"scans/{name}" for name in expected]
    assert [found.inside.as_posix() for found in listing.pictures] == expected
    masks = [("scans/a_mask.png", MASK), ("scans/a_mask_1.png", MASK)]
    assert listing.left_out == [*masks, ("scans/noted.text", NO_PICTURE), ("scans/notes.txt", NO_PICTURE)]
    assert listing.skipped == "skipped 2 masks and 2 files that are no pictures"
    assert all(found.path.is_file() for found in listing.pictures)


@pytest.mark.parametrize("name", ["a_mask.png", "notes.txt", "drawing.svg"])
def test_a_file_named_outright_is_kept_whatever_it_is(scans, name):
    assert files(f"scans/{name}") == [f"scans/{name}"]
    assert f"scans/{name}" in files("scans", f"scans/{name}")


def test_every_file_has_one_row_however_often_it_is_reached(scans):
    everything = files("scans", "./scans/", "scans/a.png", "scans/*.png", "scans")
    assert len(everything) == len(set(everything)) == 6


@pytest.mark.parametrize("content", [b"", b"Dear patient", bytes(3000), b"\x89PNX\r\n\x1a\n" + bytes(200)])
@pytest.mark.parametrize("name", ["s.png", "s.JPG", "s.dcm", "s.heic", "s.jpeg.crdownload", "s.tif.part"])
def test_a_scan_that_was_broken_on_its_way_is_a_row(scans, name, content):
    (scans / "scans" / name).write_bytes(content)
    assert f"scans/{name}" in files("scans")
    assert f"scans/{name}" in files(f"scans/*{Path(name).suffix}")


@pytest.mark.parametrize("name", ["._b.png", ".DS_Store", "Thumbs.db", ".b.png.partial", "__MACOSX/._b.png"])
def test_what_systems_leave_in_folders_is_no_scan(scans, name):
    path = scans / "scans" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(100))
    assert (f"scans/{name}", NO_PICTURE) in find(["scans"]).left_out


def test_the_mask_of_a_broken_scan_is_still_a_mask(scans):
    picture(scans / "scans" / "s_mask.png")
    (scans / "scans" / "s.png").write_bytes(b"")
    assert ("scans/s_mask.png", MASK) in find(["scans"]).left_out


def test_the_order_is_that_of_the_arguments(scans):
    assert files("scans/b.png", "scans/deep", "scans/a.png") == ["scans/b.png", "scans/deep/er/c.png", "scans/a.png"]


def test_two_folders_with_files_of_the_same_name_stay_apart(scans):
    picture(scans / "other" / "a.png")
    assert {"scans/a.png", "other/a.png"} <= set(files("scans", "other"))


def test_globs_choose_like_folders_do(scans):
    listing = find(["scans/*.png"])
    assert [found.file for found in listing.pictures] == ["scans/a.png", "scans/b.png", "scans/face_mask.png"]
    assert [why for _, why in listing.left_out] == [MASK, MASK]
    assert files("scans/**/*.png") == [*files("scans/*.png")[:2], "scans/deep/er/c.png", "scans/face_mask.png"]
    assert files("sc*") == files("scans")


def test_a_name_with_glob_characters_is_a_name_first(scans):
    picture(scans / "scans" / "odd [1].png")
    assert files("scans/odd [1].png") == ["scans/odd [1].png"]


def test_masks_in_a_folder_of_masks_belong_to_the_scans_above_it(scans):
    picture(scans / "examples" / "x.png")
    picture(scans / "examples" / "masks" / "x_mask.png")
    picture(scans / "examples" / "masks" / "y.png")
    assert files("examples") == ["examples/x.png", "examples/masks/y.png"]


def test_a_folder_to_leave_out_is_not_searched(scans):
    assert "scans/deep/er/c.png" not in files("scans", leave_out=[Path("scans/deep")])


@pytest.mark.parametrize("argument", ["absent.png", "absent/*.png", "scans/*.jpg", ""])
def test_what_matches_nothing_is_an_error_that_names_it(scans, argument):
    with pytest.raises(ConfigError) as caught:
        find(["scans", argument])
    assert f"'{argument}'" in caught.value.found


def test_a_folder_without_pictures_is_an_error_that_counts(scans):
    (scans / "empty").mkdir()
    (scans / "empty" / "notes.txt").write_text("hello")
    with pytest.raises(ConfigError, match="skipped 1 file that is no picture"):
        find(["empty"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_pipe_in_a_folder_is_not_waited_for(scans):
    os.mkfifo(scans / "scans" / "pipe.png")
    assert ("scans/pipe.png", NO_PICTURE) in find(["scans"]).left_out


def test_a_link_to_nothing_in_a_folder_becomes_a_row(scans):
    (scans / "scans" / "gone.png").symlink_to(scans / "nowhere.png")
    assert "scans/gone.png" in files("scans")


@pytest.mark.parametrize(
    ("stem", "expected"),
    [("s_mask", True), ("s_mask_2", True), ("s_masked", True), ("s", False), ("_mask", False), ("t_mask", False)],
)
def test_a_mask_is_told_by_the_name_of_its_scan(stem, expected):
    assert is_mask_of(stem, {"s", ""}) is expected


def test_a_scan_whose_own_name_holds_mask_keeps_its_mask_apart():
    assert is_mask_of("un_mask_ed_mask", {"un_mask_ed"})
