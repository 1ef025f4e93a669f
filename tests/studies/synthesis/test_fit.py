"""Generators: a kill changes nothing, other runs' snapshots are refused, pictures say that they are generated."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.metrics import log_loss

import bcx.studies.synthesis.fit as module
from bcx.data.readers import read_source
from bcx.errors import CheckpointError, DataError, OutputError, TrainingError
from bcx.studies.synthesis.fit import grid_epochs, read_planes, train_generator
from bcx.studies.synthesis.generator import MARK, load_generator, to_images, to_planes
from bcx.studies.synthesis.recipes import GeneratorJob, SynthRecipe
from bcx.tasks import get_task
from bcx.train.state import STATE_FILE
from tests.conftest import never

TINY = {"size": 16, "width": 4, "noise": 8, "epochs": 5, "batch_size": 2, "precision": "fp32"}
RECIPES = {
    "upsampling": SynthRecipe(**TINY),
    "dcgan": SynthRecipe(**TINY, networks="dcgan", loss="bce", spectral_norm=False, augment=(), ema=0),
}


@pytest.fixture(scope="module")
def records(busi_folder):
    return read_source("mine", busi_folder, task=get_task("breast-ultrasound"))


def job(records):
    return GeneratorJob(None, "benign", records)


@pytest.fixture(scope="module")
def trained(records, tmp_path_factory):
    out, rows = tmp_path_factory.mktemp("generators"), []
    generator = train_generator(RECIPES["upsampling"], job(records), out, lambda row, n: rows.append((row, n)))
    return generator, out / "all" / "benign", rows


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECIPES)
def test_a_killed_run_goes_on_to_the_same_weights(kind, records, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SNAPSHOT_SECONDS", 0.0)
    recipe = RECIPES[kind]
    whole = train_generator(recipe, job(records), tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(row, epochs):
        if row["epoch"] == 3:
            raise Killed

    with pytest.raises(Killed):
        train_generator(recipe, job(records), tmp_path / "cut", kill)
    assert (tmp_path / "cut" / "all" / "benign" / STATE_FILE).is_file()
    rows = []
    resumed = train_generator(recipe, job(records), tmp_path / "cut", lambda row, n: rows.append(row["epoch"]))
    assert rows == [4, 5]
    expected = whole.network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.network.state_dict().items())
    assert np.array_equal(resumed.sample(4, 0), whole.sample(4, 0))


@pytest.mark.slow
def test_a_run_leaves_weights_history_and_pictures_and_is_not_run_twice(trained, records):
    generator, out, rows = trained
    with (out / "history.csv").open() as stream:
        history = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in history] == [1, 2, 3, 4, 5]
    assert [float(row["g_loss"]) for row in history] == [row["g_loss"] for row, _ in rows]
    assert not (out / STATE_FILE).exists()
    note = json.loads((out / "run.json").read_text())
    assert (note["label"], note["n_train"], note["epochs"], note["fold"]) == ("benign", 4, 5, None)
    grids = sorted((out / "grids").iterdir())
    assert [int(file.stem.split("-")[1]) for file in grids] == grid_epochs(5)
    assert all(MARK[0] in Image.open(file).info and Image.open(file).size == (8 * 16, 16) for file in grids)
    assert Image.open(out / "losses.png").size[0] > 100
    assert Image.open(out / "epochs.png").size[0] > 100

    again = train_generator(RECIPES["upsampling"], job(records), out.parents[1], never)
    assert np.array_equal(again.sample(3, 1), generator.sample(3, 1))


@pytest.mark.slow
def test_training_changes_what_is_made(trained):
    from bcx.studies.synthesis.generator import build_networks

    generator, _, _ = trained
    start, _ = build_networks(generator.recipe)
    moved = [
        not torch.equal(before, after)
        for before, after in zip(start.parameters(), generator.network.parameters(), strict=True)
    ]
    assert all(moved)


@pytest.mark.slow
def test_what_it_makes_comes_nearer_to_what_it_is_shown(tmp_path, monkeypatch, records):
    """Bright pictures in, brighter pictures out: losses of the wrong sign would darken them."""
    bright = np.random.default_rng(0).integers(200, 240, (8, 16, 16), dtype=np.uint8)
    monkeypatch.setattr(module, "read_planes", lambda records, size: bright)
    settings = {**TINY, "epochs": 60, "batch_size": 4, "lr_generator": 2e-3, "lr_discriminator": 2e-3, "ema": 0.5}
    for kind in ("hinge", "bce"):
        recipe = SynthRecipe(**settings, loss=kind, augment=())
        made = train_generator(recipe, job(records), tmp_path / kind).sample(16, 0)
        assert made.mean() > 160  # grey, 127, at the start


def test_the_losses_are_the_cross_entropy_and_the_hinge():
    real, made = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([0.1, -2.0, 1.4])

    def entropy(logits, truth):
        return log_loss([truth] * 3, torch.sigmoid(logits).double().numpy(), labels=[0, 1])

    expected = entropy(real, 1) + entropy(made, 0)
    assert float(module._judge(real, made, "bce")) == pytest.approx(expected, rel=1e-5)
    assert float(module._convince(made, "bce")) == pytest.approx(entropy(made, 1), rel=1e-5)
    assert float(module._judge(real, made, "hinge")) == pytest.approx((0.7 + 2.2 + 0) / 3 + (1.1 + 0 + 2.4) / 3)
    assert float(module._convince(made, "hinge")) == pytest.approx(0.5 / 3)


def test_only_scans_of_the_class_are_learnt_from_and_one_is_too_few(records, tmp_path):
    recipe = RECIPES["upsampling"].model_copy(update={"epochs": 1})
    rest = [record for record in records if record.label != "benign"]
    with pytest.raises(DataError, match="benign"):
        train_generator(recipe, job(rest), tmp_path)


def test_another_runs_snapshot_is_refused(records, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SNAPSHOT_SECONDS", 0.0)

    def kill(row, epochs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generator(RECIPES["upsampling"], job(records), tmp_path, kill)
    other = RECIPES["upsampling"].model_copy(update={"seed": 9})
    with pytest.raises(TrainingError, match="snapshot"):
        train_generator(other, job(records), tmp_path)


def test_planes_and_pictures_are_the_same_grey_values(records):
    planes = read_planes(records[:2], 16)
    assert planes.shape == (2, 16, 16)
    pictures = to_images(planes)
    assert float(pictures.min()) >= -1
    assert float(pictures.max()) <= 1
    assert np.array_equal(to_planes(pictures), planes)


@pytest.mark.slow
def test_pictures_are_marked_and_a_seed_draws_the_same_ones(trained, tmp_path):
    generator, out, _ = trained
    loaded = load_generator(out / "generator.safetensors")
    few, more = loaded.sample(3, 7), loaded.sample(40, 7)
    assert more.dtype == np.uint8
    assert np.abs(few.astype(int) - more[:3]).max() <= 1
    assert not np.array_equal(few, loaded.sample(3, 8))
    files = loaded.write_samples(tmp_path, 3, seed=7)
    assert [file.name for file in files] == [f"benign-7-0000{i}.png" for i in range(3)]
    assert all(MARK[0] in Image.open(file).info for file in files)
    assert np.array_equal(np.asarray(Image.open(files[1])), few[1])
    assert generator.label in Image.open(files[0]).info["Title"]
    with pytest.raises(OutputError, match="cannot be written"):
        loaded.write_samples(files[0], 1, seed=7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{"label": "../../elsewhere"}, {"label": 3}, {"recipe": {"size": 10**9}}, {"surplus": 1}, {"format": "another"}],
    ids=str,
)
def test_a_generator_with_a_header_that_does_not_fit_is_refused(trained, tmp_path, change):
    with safe_open(trained[1] / "generator.safetensors", framework="pt") as stored:
        header = json.loads(stored.metadata()["bcx"])
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - safe_open is no dict
    file = tmp_path / "generator.safetensors"
    save_file(tensors, file, metadata={"bcx": json.dumps(header | change)})
    with pytest.raises(CheckpointError, match="cannot be read as a generator"):
        load_generator(file)


def test_a_file_that_is_no_generator_says_so(tmp_path, root):
    with pytest.raises(CheckpointError):
        load_generator(tmp_path / "missing.safetensors")
    with pytest.raises(CheckpointError):
        load_generator(root / "checkpoints" / "mobilenetv2-busi" / "model.safetensors")
