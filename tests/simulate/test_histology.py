"""Drawn tissue: the same again, unlike with and without a tumour, in the published layouts."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2hed
from typer.testing import CliRunner

from bcx.cli.main import app
from bcx.imaging.scan import Scan
from bcx.simulate.examples import PATCHES, write_examples
from bcx.simulate.histology import LABELS, simulate_patch, simulate_tissue
from bcx.tasks import HISTOLOGY_IDC
from bcx.trust.plain import plain_checks

SHIPPED = Path(__file__).resolve().parents[2] / "examples" / "histology-idc"


def haematoxylin(pixels: np.ndarray) -> float:
    return float(rgb2hed(pixels)[..., 0].mean())


def test_the_same_arguments_draw_the_same_picture():
    assert np.array_equal(simulate_patch("negative", 5), simulate_patch("negative", 5))
    assert not np.array_equal(simulate_patch("negative", 5), simulate_patch("negative", 6))
    assert simulate_patch("positive", 1, side=80).shape == (80, 80, 3)


def test_tumours_hold_more_haematoxylin():
    quiet, dense = ([haematoxylin(simulate_patch(label, seed)) for seed in range(12)] for label in LABELS)
    assert np.median(dense) > 1.2 * np.median(quiet)
    assert np.mean(np.array(dense) > np.median(quiet)) > 0.9


def test_a_tumour_is_where_it_was_put():
    tumour = np.zeros((120, 160), bool)
    tumour[:, 80:] = True
    stain = rgb2hed(simulate_tissue(tumour, 3))[..., 0]
    assert stain[tumour].mean() > 1.2 * stain[~tumour].mean()


def test_it_passes_for_tissue_and_not_for_a_scan():
    for label in LABELS:
        scan = Scan.open(simulate_patch(label, 2))
        assert plain_checks(scan, HISTOLOGY_IDC) == ([], [])
        assert plain_checks(scan)[0]
    assert plain_checks(Scan.open(np.full((50, 50, 3), 240, np.uint8)), HISTOLOGY_IDC)[0]
    grey = simulate_patch("positive", 1)[..., :1].repeat(3, axis=2)
    assert "does not have the colours" in plain_checks(Scan.open(grey), HISTOLOGY_IDC)[0][0]


def test_shipped_examples_are_the_ones_that_the_code_draws(tmp_path):
    again = write_examples(tmp_path, PATCHES)
    with (SHIPPED / "examples.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows] == [file.name for file in again]
    assert (SHIPPED / "examples.csv").read_bytes() == (tmp_path / "examples.csv").read_bytes()
    assert {row["label"] for row in rows} == set(HISTOLOGY_IDC.classes)
    for file in again:
        with Image.open(SHIPPED / file.name) as shipped, Image.open(file) as drawn:
            assert "simulated" in shipped.text["Description"]
            # float sums may round otherwise on another processor
            assert np.abs(np.asarray(shipped, int) - np.asarray(drawn, int)).max() <= 1
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 100_000


@pytest.mark.parametrize("count", [0, 2])
def test_the_command_draws_patches(tmp_path, count):
    done = CliRunner().invoke(app, ["examples", str(tmp_path), "--task", "histology-idc", "--per-class", str(count)])
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.glob("simulated-*.png"))) == (2 * count or 6)
    refused = CliRunner().invoke(app, ["examples", str(tmp_path), "--task", "skin"])
    assert refused.exit_code != 0
