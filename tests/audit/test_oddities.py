"""Each oddity on an example made for it, and none of them on a plain scan."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from bcx.audit import audit, run
from bcx.audit.candidates import Terms
from bcx.audit.features import burnt_in, describe, looked_at
from bcx.audit.look import Look, outliers
from bcx.audit.oddities import KINDS, Odd, is_mask, oddities_of, split_screen, writing
from bcx.imaging.scan import Scan
from bcx.trust.claims import NOT_A_SCAN
from tests.audit.conftest import overlaid, save, scan


def kinds(pixels: np.ndarray) -> list[str]:
    return [odd.kind for odd in oddities_of(Scan.open(np.ascontiguousarray(pixels)))]


def coloured(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., None], 3, axis=2)


@pytest.mark.parametrize("label", ["normal", "benign", "malignant"])
def test_a_plain_scan_is_not_odd(label):
    assert [kinds(scan(seed, label)) for seed in (1, 2, 3)] == [[], [], []]


def test_writing_and_calipers():
    assert kinds(overlaid(scan(1))) == ["burnt-in text", "calipers"]
    seen = overlaid(scan(2))
    lines, crosses = writing(seen, burnt_in(seen))
    assert 2 <= lines <= 3
    assert 1 <= crosses <= 5


def test_doppler_and_coloured_marks():
    flow = coloured(scan(1))
    cv2.circle(flow, (150, 100), 12, (210, 40, 30), -1)
    cv2.circle(flow, (180, 110), 8, (30, 50, 220), -1)
    assert kinds(flow) == ["Doppler"]
    lines = coloured(scan(1))
    cv2.line(lines, (40, 60), (220, 150), (250, 240, 20), 2)
    cv2.rectangle(lines, (60, 60), (200, 200), (60, 220, 70), 1)
    assert kinds(lines) == ["colour marks"]


def test_a_tint_is_no_doppler():
    sepia = (coloured(scan(1)) * np.array([1.0, 0.7, 0.45])).astype(np.uint8)
    assert kinds(sepia) == ["tint"]


def test_split_screens_with_a_gap_and_with_a_seam():
    gap = np.zeros((240, 20), np.uint8)
    assert kinds(np.hstack([scan(1)[:, :250], gap, scan(2, "malignant")[:, :250]])) == ["split screen"]
    assert kinds(np.hstack([scan(1), scan(2, "malignant")])) == ["split screen"]
    assert split_screen(scan(1)[:40, :80], np.zeros((40, 80), bool)) == ""


def test_a_bright_line_is_no_split_screen():
    faulty = scan(1).copy()
    faulty[:, 150] = np.clip(faulty[:, 150].astype(int) + 60, 0, 255)
    assert "split screen" not in kinds(faulty)


def test_a_mask_is_a_mask():
    mask = np.zeros((200, 200), np.uint8)
    mask[50:90, 60:120] = 255
    assert is_mask(mask)
    assert kinds(mask) == ["mask"]
    assert not is_mask(scan(1))
    assert not is_mask(np.zeros((50, 50), np.uint8))


def test_pages_photographs_and_icons_are_no_scans():
    page = np.full((400, 300), 255, np.uint8)
    for row in range(12):
        cv2.putText(page, "Findings: none today", (10, 30 + 30 * row), 0, 0.7, 0, 1)
    y, x = np.mgrid[:200, :300]
    photograph = np.stack([x * 255 // 300, y * 255 // 200, 255 - x * 255 // 300], axis=2).astype(np.uint8)
    for pixels in (page, photograph, scan(1)[:60, :60]):
        assert "not a scan" in kinds(pixels)


def test_several_frames_and_a_split_in_a_file(tmp_path):
    frames = [Image.fromarray(scan(seed)) for seed in (1, 2, 3)]
    frames[0].save(tmp_path / "cine.tif", save_all=True, append_images=frames[1:])
    found = audit(tmp_path, workers=1, network=False)
    assert [(odd.kind, "first page of 3" in odd.detail) for _, odd in found.odd] == [("several frames", True)]
    assert set(KINDS) >= {odd.kind for _, odd in found.odd}


def test_large_scans_are_looked_at_in_a_smaller_size():
    large = cv2.resize(scan(1), None, fx=6, fy=6)
    assert max(looked_at(large).shape) == 512
    assert looked_at(scan(1)) is scan(1)
    assert "burnt-in text" in kinds(cv2.resize(overlaid(scan(1)), None, fx=2.5, fy=2.5))


def looks(count: int = 40) -> list[Look]:
    rng = np.random.default_rng(0)
    return [
        Look(k, f"{k}.png", 560 + int(rng.integers(-20, 20)), 470, "x", comparable=True,
             measures=(70 + rng.normal() * 6, 42 + rng.normal() * 4, 0.1 + 0.01 * rng.normal(), 0.2))
        for k in range(count)
    ]  # fmt: skip


def test_unusual_sizes_and_levels_stand_out():
    many = looks()
    many.append(Look(40, "wide.png", 2200, 470, "x", measures=(70.0, 42.0, 0.1, 0.2)))
    many.append(Look(41, "dark.png", 560, 470, "x", measures=(9.0, 8.0, 0.1, 0.2)))
    assert [(file, odd.kind) for file, odd in outliers(many)] == [("wide.png", "size"), ("dark.png", "intensity")]
    assert outliers(looks()) == []
    assert outliers(many[-5:]) == []


def test_the_network_is_asked_about_unusual_pictures_first_and_not_about_all(monkeypatch):
    many = looks(400)
    many[300] = Look(300, "page.png", 560, 470, "x", comparable=True, measures=(200.0, 90.0, 0.9, 0.9))
    asked, strange = [], {"page.png"}

    def stream(files):
        for file in files:
            asked.append(file.name)
            yield SimpleNamespace(decision=NOT_A_SCAN if file.name in strange else "benign")

    monkeypatch.setattr("bcx.load", lambda: SimpleNamespace(stream=stream))
    found, notes = run._ask_network(Path("ward"), many, lambda *_: None)
    assert found == ["page.png"]
    assert asked[0] == "page.png"
    assert len(asked) < 130
    assert notes == [f"The network looked at the {len(asked)} most unusual pictures of 400."]
    strange |= {look.file for look in many}
    assert len(run._ask_network(Path("ward"), many, lambda *_: None)[0]) == 400
    unread = [Look(0, "a.png", odd=(Odd("unreadable", "."),))]
    assert run._ask_network(Path("ward"), unread, lambda *_: None) == ([], [])


@pytest.mark.slow
def test_the_gate_of_the_default_model_is_asked(tmp_path):
    rng = np.random.default_rng(0)
    for seed in (1, 2):
        save(scan(seed), tmp_path / f"scan{seed}.png")
    save(rng.integers(0, 255, (300, 300), dtype=np.uint8), tmp_path / "noise.png")
    found = audit(tmp_path, workers=1)
    assert ("noise.png", "not a scan") in {(file, odd.kind) for file, odd in found.odd}
    assert found.notes == ("The network looked at the 3 most unusual pictures of 3.",)


@pytest.mark.parametrize("size", [(16, 2000), (3000, 20), (17, 17), (2200, 1800)])
def test_any_size_is_looked_at(tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
    for name in ("a.png", "b.png"):
        save(pixels, tmp_path / name)
    found = audit(tmp_path, workers=1, network=False)
    assert [(look.width, look.height) for look in found.looks] == [size[::-1]] * 2


def test_terms_do_not_need_many_scans():
    terms = Terms.learn([describe(scan(1))], 1)
    assert terms.centres.shape[1] >= 2
    assert terms.axes.shape == (1024, 64)
