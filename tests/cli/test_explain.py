"""`bcx explain`: a sheet and numbers per scan, bad files in words, wrong names before anything is read."""

import json

import numpy as np
import pytest
from PIL import Image

from bcx.simulate import simulate


@pytest.fixture
def folder(tmp_path):
    scans = tmp_path / "scans"
    (scans / "ward").mkdir(parents=True)
    Image.fromarray(simulate("malignant", 3, 150, 190).pixels).save(scans / "a.png")
    Image.fromarray(simulate("benign", 4, 150, 190).pixels).save(scans / "ward" / "a.png")
    (scans / "broken.png").write_bytes(b"no picture")
    return scans


@pytest.mark.slow
def test_each_scan_gets_a_sheet_and_numbers_and_a_bad_file_is_named(folder, tiny_lesion_checkpoint, run):
    out = folder.parent / "out"
    done = run("explain", folder, "--model", tiny_lesion_checkpoint, "--methods", "exact, grad-cam", "--out", out)
    assert done.status == 1
    assert "broken.png" in done.err
    assert "2 explained, 1 failed" in done.err
    for name in ("a", "ward/a"):
        sheet = np.asarray(Image.open(out / f"{name}_explained.png"))
        assert sheet.shape[1] > 1000
        assert sheet[..., :3].std(axis=2).max() > 20, "maps are drawn in colour"
        found = json.loads((out / f"{name}_explained.json").read_text())
        assert [each["method"] for each in found["methods"]] == ["exact", "grad-cam"]
        assert found["methods"][0]["target"] == found["answer"]["label"]
        assert found["methods"][0]["checks"] is None
        assert found["lesion"] is None or found["lesion"]["note"] == "measured, not read by a radiologist"
        assert -1 <= found["methods"][0]["likeness"]["grad-cam"] <= 1


def test_checks_stand_beside_their_map(folder, tiny_checkpoint, run):
    out = folder.parent / "out"
    done = run("explain", folder / "a.png", "--model", tiny_checkpoint, "--class", "benign", "--check", "--out", out)
    assert done.status == 0, done.err
    (found,) = json.loads((out / "a_explained.json").read_text())["methods"]
    assert found["target"] == "benign"
    assert found["checks"]["verdict"]


def test_the_sheet_is_drawn_in_other_colours(folder, tiny_checkpoint, run):
    out, sheets = folder.parent / "out", {}
    for colours in ("signed", "turbo", "grey"):
        done = run("explain", folder / "a.png", "--model", tiny_checkpoint, "--colours", colours, "--out", out)
        assert done.status == 0, done.err
        sheets[colours] = np.asarray(Image.open(out / "a_explained.png"))[..., :3].astype(int)
    assert np.ptp(sheets["grey"], axis=2).max() == 0
    assert (sheets["turbo"] != sheets["signed"]).any()


@pytest.mark.parametrize("wrong", [("--methods", "lime"), ("--class", "cyst"), ("--colours", "jet")])
def test_unknown_names_are_refused_first(folder, tiny_checkpoint, run, wrong):
    out = folder.parent / "out"
    done = run("explain", folder, "--model", tiny_checkpoint, "--out", out, *wrong)
    assert done.status == 2
    assert wrong[1] in done.err
    assert not out.exists()
