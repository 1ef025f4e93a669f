"""The simulator against closed forms and against what the signs of a lesion mean."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from bcx.errors import ConfigError
from bcx.simulate import LABELS, simulate
from bcx.simulate.anatomy import Scene, curve, grid, ridges, smooth_field
from bcx.simulate.examples import EXAMPLES, write_examples
from bcx.simulate.formation import compress, envelope, widths

SHIPPED = Path(__file__).resolve().parents[2] / "examples"
SEEDS = range(12)


def even_tissue(height: int, width: int, loss: float = 0.0) -> Scene:
    nothing = np.zeros((height, width), np.float32)
    return Scene(nothing, nothing, nothing + np.float32(loss))


@pytest.fixture(scope="module")
def lumps() -> dict[str, list]:
    return {label: [simulate(label, seed, 160, 192) for seed in SEEDS] for label in LABELS}


# --- scans as a whole


@pytest.mark.parametrize("label", LABELS)
def test_same_seed_same_pixels(label):
    one, two = simulate(label, 5, 96, 112), simulate(label, 5, 96, 112)
    assert np.array_equal(one.pixels, two.pixels)
    assert np.array_equal(one.mask, two.mask)
    assert one.pixels.dtype == np.uint8
    assert one.mask.dtype == bool
    assert one.pixels.shape == one.mask.shape == (96, 112)


def test_other_seed_other_scan():
    scans = [simulate(label, seed, 96, 112).pixels.tobytes() for label in LABELS for seed in SEEDS]
    assert len(set(scans)) == len(scans)


def test_size_changes_detail_not_anatomy():
    small, large = simulate("benign", 3, 120, 144), simulate("benign", 3, 360, 432)
    # every third pixel of the large mask lies at a pixel centre of the small one
    assert (small.mask == large.mask[1::3, 1::3]).mean() > 0.995
    shrunk = np.asarray(Image.fromarray(large.pixels).resize((36, 30), Image.Resampling.BOX), float)
    same = np.asarray(Image.fromarray(small.pixels).resize((36, 30), Image.Resampling.BOX), float)
    assert np.corrcoef(shrunk.ravel(), same.ravel())[0, 1] > 0.9


def test_mask_fits_label(lumps):
    for label, scans in lumps.items():
        for scan in scans:
            assert scan.mask.any() == (label != "normal")
            assert scan.mask.mean() < 0.25


def test_grey_levels_are_those_of_scans(lumps):
    means = {label: np.median([scan.pixels.mean() / 255 for scan in scans]) for label, scans in lumps.items()}
    for label, mean in means.items():
        assert 0.2 < mean < 0.45, label
    for scans in lumps.values():
        for scan in scans:
            assert (scan.pixels == 255).mean() < 0.03  # little is burnt out
            assert scan.pixels.std() > 20


def test_bottom_is_darker_than_top(lumps):
    for scan in lumps["normal"]:
        assert scan.pixels[-20:].mean() < 0.7 * scan.pixels[20:60].mean()


@pytest.mark.parametrize(
    ("label", "seed", "height"), [("cyst", 0, 96), ("benign", -1, 96), ("benign", 0, 16)], ids=["label", "seed", "size"]
)
def test_what_cannot_be_drawn_is_named(label, seed, height):
    with pytest.raises(ConfigError, match=r"simulated scan .* Expected: a label out of normal, benign, malignant"):
        simulate(label, seed, height, 96)


# --- signs of the two kinds of lesion


def test_lesion_is_darker_than_its_surroundings(lumps):
    from scipy.ndimage import binary_dilation

    for label in ("benign", "malignant"):
        for scan in lumps[label]:
            ring = binary_dilation(scan.mask, iterations=8) & ~binary_dilation(scan.mask, iterations=2)
            assert scan.pixels[scan.mask].mean() < 0.85 * scan.pixels[ring].mean(), label


def test_benign_is_wider_than_tall_and_malignant_taller_than_wide(lumps):
    for label in ("benign", "malignant"):
        for scan in lumps[label]:
            down, across = np.nonzero(scan.mask)
            # spread rather than bounding box: spicules stretch the box
            ratio = across.std() / down.std()
            assert ratio > 1.15 if label == "benign" else ratio < 0.95, (label, ratio)


def below_against_sides(scan) -> float:
    """Mean grey below the middle half of the lesion less that beside it, at the same depth."""
    down, across = np.nonzero(scan.mask)
    left, right, bottom = across.min(), across.max(), down.max()
    quarter = (right - left) // 4
    rows = slice(bottom + 3, bottom + 28)
    below = scan.pixels[rows, left + quarter : right - quarter].mean()
    sides = np.hstack(
        [scan.pixels[rows, max(left - 30, 0) : max(left - 5, 0)], scan.pixels[rows, right + 5 : right + 30]]
    )
    return float(below - sides.mean())


def test_enhancement_below_benign_and_shadow_below_malignant(lumps):
    benign = [below_against_sides(scan) for scan in lumps["benign"]]
    malignant = [below_against_sides(scan) for scan in lumps["malignant"]]
    assert np.mean(np.array(benign) > 0) >= 0.9
    assert np.mean(np.array(malignant) < 0) >= 0.9
    assert np.median(benign) > 10
    assert np.median(malignant) < -10


def roughness(mask: np.ndarray) -> float:
    """Perimeter against that of the ellipse of the same moments: 1 for an ellipse, above for a spiculated outline."""
    from scipy.special import ellipe
    from skimage.measure import perimeter_crofton, regionprops

    region = regionprops(mask.astype(int))[0]
    a, b = region.axis_major_length / 2, region.axis_minor_length / 2
    return float(perimeter_crofton(mask) / (4 * a * ellipe(1 - (b / a) ** 2)))


@pytest.mark.slow
def test_malignant_outline_is_rougher():
    benign, malignant = (
        np.median([roughness(simulate(label, seed, 240, 280).mask) for seed in SEEDS])
        for label in ("benign", "malignant")
    )
    assert benign < 1.06
    assert malignant > benign + 0.08


# --- image formation against closed forms


def test_one_look_follows_rayleigh():
    """Fully developed speckle: SNR = sqrt(pi / (4 - pi)) = 1.91, and the whole law by a Kolmogorov-Smirnov distance."""
    amplitude = envelope(even_tissue(400, 400), np.random.default_rng(7))[40:-40, 40:-40]
    assert amplitude.mean() / amplitude.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.02)
    apart = amplitude[::8, ::20].ravel()  # far enough apart to be independent
    scale = np.sqrt((amplitude**2).mean() / 2)
    assert stats.kstest(apart, stats.rayleigh(scale=scale).cdf).pvalue > 0.01


def test_power_is_that_of_the_tissue():
    power = (envelope(even_tissue(300, 300), np.random.default_rng(3), looks=4) ** 2).mean()
    assert power == pytest.approx(1.0, rel=0.05)


def test_looks_average_as_independent_ones():
    """Of n independent looks the power has a gamma law of shape n: SNR = sqrt(n)."""
    power = envelope(even_tissue(400, 400), np.random.default_rng(7), looks=4)[40:-40, 40:-40] ** 2
    assert power.mean() / power.std() == pytest.approx(2.0, rel=0.04)


def test_speckle_is_as_wide_as_the_beam():
    """Correlation of speckle power along a row falls as exp(-d^2 / (2 s^2)) for a Gaussian beam of half width s."""
    height = 500
    power = envelope(even_tissue(height, 900), np.random.default_rng(1), focus=0.4) ** 2
    beam = widths(height, 0.4)
    for row in (200, 480):
        band = power[row - 15 : row + 15]
        band = band - band.mean()
        lag = 5
        seen = (band[:, lag:] * band[:, :-lag]).mean() / (band**2).mean()
        assert seen == pytest.approx(np.exp(-(lag**2) / (2 * beam[row] ** 2)), abs=0.06)
    assert beam[480] > 1.2 * beam[200]  # wider away from the focus


def test_loss_adds_up_with_depth():
    amplitude = envelope(even_tissue(300, 300, loss=20.0), np.random.default_rng(2))
    upper, lower = (20 * np.log10(np.sqrt((amplitude[rows] ** 2).mean())) for rows in (slice(60, 90), slice(210, 240)))
    assert upper - lower == pytest.approx(10.0, abs=0.8)  # half the height at 20 dB a height


def test_mirror_is_brighter_than_speckle():
    scene = even_tissue(200, 200)
    scene.mirror = scene.mirror.copy()
    scene.mirror[99:102] = 8
    amplitude = envelope(scene, np.random.default_rng(0))
    assert amplitude[100].mean() > 3 * amplitude[40:80].mean()


def test_compression_is_monotone_and_bounded():
    steps = np.repeat(np.logspace(-1, 2, 120, dtype=np.float32)[None], 64, 0)
    grey = compress(steps, np.random.default_rng(0)).mean(0)
    assert np.all(np.diff(grey[::8]) >= 0)
    assert grey[0] < 80
    assert grey[-1] == 255


# --- random fields


def test_field_has_mean_zero_and_unit_spread():
    y, x = grid(300, 300)
    field = smooth_field(np.random.default_rng(0), y, x, tall=0.01, wide=0.01)
    assert abs(field.mean()) < 0.05
    assert field.std() == pytest.approx(1.0, abs=0.1)


def test_ridges_lie_on_the_zero_level_and_fade_when_upright():
    y, x = grid(100, 100)
    level = ridges(np.broadcast_to(y - 0.5, (100, 100)).astype(np.float32), 0.01, 0.005)
    upright = ridges(np.broadcast_to(x - 0.5, (100, 100)).astype(np.float32), 0.01, 0.005)
    assert abs(int(level.mean(1).argmax()) - 50) <= 1
    assert level.max() > 0.6
    assert upright.max() < 0.01


def test_curve_has_the_height_asked_for():
    _, x = grid(100, 20_000)
    assert curve(np.random.default_rng(0), x, wide=0.3, height=0.05).std() == pytest.approx(0.05, rel=0.15)


# --- folders


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "examples.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_examples(folder: Path) -> None:
    rows = read_table(folder)
    assert [(row["label"], int(row["seed"])) for row in rows] == list(EXAMPLES)
    for row in rows:
        assert row["file"].startswith(f"simulated-{row['label']}-")
        picture = Image.open(folder / row["file"])
        assert "simulated" in picture.text["Description"]
        assert bool(row["mask"]) == (row["label"] != "normal")
        if row["mask"]:
            mask = np.asarray(Image.open(folder / row["mask"]))
            assert mask.shape == (picture.height, picture.width)
            assert set(np.unique(mask)) == {0, 255}
    assert {path.name for path in folder.glob("*.png")} == {row["file"] for row in rows}


def test_examples_as_written(tmp_path):
    write_examples(tmp_path, size=(64, 80))
    check_examples(tmp_path)


def test_shipped_examples_are_the_ones_that_the_code_draws():
    check_examples(SHIPPED)
    rows = read_table(SHIPPED)
    assert len(rows) >= 6
    for row in rows[::3]:
        shipped = np.asarray(Image.open(SHIPPED / row["file"]))
        drawn = simulate(row["label"], int(row["seed"]), *shipped.shape)
        # other machines may round the last bit of a float otherwise
        assert np.abs(shipped.astype(int) - drawn.pixels).mean() < 0.1


@pytest.mark.slow
def test_command_writes_what_was_asked_for(tmp_path):
    import typer

    from bcx.cli.data import examples

    app = typer.Typer()
    app.command()(examples)
    answer = CliRunner().invoke(app, [str(tmp_path / "some"), "--per-class", "1", "--seed", "9"])
    assert answer.exit_code == 0, answer.output
    assert "3 simulated scans" in answer.output
    assert [(row["label"], row["seed"]) for row in read_table(tmp_path / "some")] == [(label, "9") for label in LABELS]


def test_importing_is_cheap():
    code = "import sys, bcx.simulate; print(sorted({'scipy', 'torch', 'pandas', 'PIL'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
