"""`bcx predict` on slides: it decides by itself, writes a folder, and says in words what came out."""

import csv
import json

import pytest
from PIL import Image

from bcx.simulate.slide import SlideScene, write_slide
from bcx.slides import read_slide


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two slides of the same name, a patch, and a file that is no picture; the current folder."""
    monkeypatch.chdir(tmp_path)
    for place, seed in (("cases/a", 1), ("cases/b", 2)):
        (tmp_path / place).mkdir(parents=True)
        write_slide(tmp_path / place / "slide.tif", 400, 350, seed=seed)
    Image.fromarray(SlideScene(1, 50, 50).part(0, 0, 50, 50)).save(tmp_path / "cases" / "patch.png")
    (tmp_path / "cases" / "notes.txt").write_text("no picture")
    return tmp_path


def test_slides_and_patches_of_a_folder_each_get_what_fits_them(run, folder, patch_checkpoint, patches):
    done = run("predict", "cases", "--checkpoint", patch_checkpoint, "--out", "out")
    assert done.status == 0, done.err
    names = sorted(path.name for path in (folder / "out").iterdir())
    files = [f"{stem}{end}" for stem in ("slide", "slide_2") for end in ("_map.png", "_slide.json", "_tiles.csv")]
    assert names == sorted(["predictions.csv", *files])
    rows = list(csv.DictReader((folder / "out" / "predictions.csv").open(encoding="utf-8")))
    assert [row["file"] for row in rows] == ["cases/patch.png"]
    for stem, place in (("slide", "a"), ("slide_2", "b")):
        said = json.loads((folder / "out" / f"{stem}_slide.json").read_text())
        direct = read_slide(patches, folder / "cases" / place / "slide.tif").to_dict()
        for key in set(direct) - {"seconds"}:
            assert (
                said[key] == pytest.approx(direct[key]) if isinstance(direct[key], float) else said[key] == direct[key]
            )
        assert f"cases/{place}/slide.tif: " in done.out
    assert "tiles show tissue" in done.out


def test_stopped_it_does_not_read_a_slide_again(run, folder, patch_checkpoint, monkeypatch):
    from bcx.cli import slides

    read, begun, stop = slides._read, [], 1

    def watched(classifier, found, options):
        if len(begun) == stop:
            raise KeyboardInterrupt
        begun.append(found.file)
        return read(classifier, found, options)

    monkeypatch.setattr(slides, "_read", watched)
    command = ("predict", "cases", "--model", patch_checkpoint, "--out", "out")
    done = run(*command)
    assert done.status == 130
    assert "What was done is kept (1 file):" in done.err
    stop = 9
    again = run(*command)
    assert again.status == 0
    assert begun == ["cases/a/slide.tif", "cases/b/slide.tif"]
    assert again.out.splitlines()[0] == done.out.splitlines()[0]
    assert again.out.count("tiles show tissue") == 2
    assert len(list((folder / "out").iterdir())) == 7


def test_without_a_folder_a_slide_is_one_line(run, folder, patch_checkpoint):
    before = sorted(folder.rglob("*"))
    options = ("--model", patch_checkpoint, "--json", "--stride", 100, "--scale", "0.5", "--every-tile")
    done = run("predict", "cases/a/slide.tif", *options)
    assert done.status == 0, done.err
    said = json.loads(done.out)
    assert (said["file"], said["stride"], said["scale"]) == ("cases/a/slide.tif", 100, 0.5)
    assert said["tiles_read"] == said["tiles"]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_what_an_earlier_run_wrote_is_no_slide(run, folder, patch_checkpoint):
    for _ in range(2):
        done = run("predict", "cases", "--model", patch_checkpoint, "--out", "cases/out")
        assert done.status == 0, done.err
        assert done.out.count("tiles show tissue") == 2


@pytest.mark.parametrize("out", ["table.csv", "there"])
def test_a_file_is_no_place_for_slides(run, folder, patch_checkpoint, out):
    (folder / "there").write_text("mine")
    done = run("predict", "cases", "--model", patch_checkpoint, "--out", out)
    assert done.status == 2
    assert "folder" in done.err
    assert (folder / "there").read_text() == "mine"


def test_a_damaged_slide_does_not_keep_the_others(run, folder, patch_checkpoint):
    slide = folder / "cases" / "a" / "slide.tif"
    data = bytearray(slide.read_bytes())
    data[200:2000] = bytes(1800)
    slide.write_bytes(data)
    done = run("predict", "cases/a/slide.tif", "cases/b/slide.tif", "--model", patch_checkpoint, "--out", "out")
    assert done.status == 1
    assert "slide.tif" in done.err
    assert "cases/b/slide.tif: " in done.out
    assert not [path for path in (folder / "out").iterdir() if path.name.startswith(".")]


def test_a_wrong_option_is_a_wrong_request(run, folder, patch_checkpoint):
    done = run("predict", "cases/a/slide.tif", "--model", patch_checkpoint, "--scale", "1000")
    assert done.status == 2
    assert "scale" in done.err
