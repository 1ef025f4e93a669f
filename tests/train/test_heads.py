"""What each head trains on: its pictures, their order, its loss; and that a lesion head learns to find lesions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import log_loss
from torch import nn

from bcx.data.readers import read_source
from bcx.data.records import Record
from bcx.errors import ConfigError
from bcx.networks.lesion import LesionNetwork, account
from bcx.tasks import get_task
from bcx.train.answer import answer_records
from bcx.train.config import LesionRecipe, Recipe
from bcx.train.fit import fit
from bcx.train.heads import LesionSide, LinearSide, class_weights, leave_out, training_side
from bcx.train.losses import lesion_loss

TASK = get_task("breast-ultrasound")
PLAIN = Recipe(arch="mobilenetv2_035", init="scratch", size=64, batch_size=5, precision="fp32", label_smoothing=0.0)
LESION = PLAIN.model_copy(update={"lesion": LesionRecipe(), "label_smoothing": 0.1})


@pytest.fixture(scope="module")
def records(busi_folder):
    return read_source("mine", busi_folder, task=TASK)


@pytest.fixture(scope="module", params=[PLAIN, LESION], ids=["linear", "lesion"])
def side(request, records):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return training_side(request.param, records, TASK)


def first_batch(side):
    return side.collate([side.dataset[which] for which in side.batches(0)[0]])


def test_the_recipe_chooses_the_side(records):
    assert isinstance(training_side(PLAIN, records, TASK), LinearSide)
    lesion = training_side(LESION, records, TASK)
    assert isinstance(lesion, LesionSide)
    assert isinstance(lesion.network, LesionNetwork)
    assert lesion.backbone is lesion.network.backbone


@pytest.mark.parametrize("recipe", [PLAIN, LESION], ids=["linear", "lesion"])
def test_the_recipes_augmentation_is_what_the_pictures_get(records, recipe):
    def shown(name):
        side = training_side(recipe.model_copy(update={"augmentation": name}), records, TASK)
        return [side.dataset[which] for which in side.batches(0)[0]]

    usual, named, machines = shown(None), shown("ultrasound"), shown("ultrasound-machines")
    assert all(np.array_equal(a.plane, b.plane) for a, b in zip(usual, named, strict=True))
    # Every change has a chance only, so a picture may be spared by both.
    same = [np.array_equal(a.plane, b.plane) for a, b in zip(usual, machines, strict=True)]
    assert np.mean(same) < 0.5
    with pytest.raises(ConfigError, match="no-such"):
        shown("no-such")


def test_every_epoch_shows_every_scan_in_as_many_batches(side, records):
    orders = [side.batches(epoch) for epoch in range(3)]
    assert len({len(order) for order in orders}) == 1
    assert orders[0] != orders[1]
    for order in orders:
        flat = [which if isinstance(which, int) else which.record for batch in order for which in batch]
        assert sorted(flat) == list(range(len(records)))
        assert min(map(len, order)) > 1  # batch norm cannot train on a single scan
    assert side.dataset.epoch == 2


def test_a_step_tells_what_was_answered_and_moves_the_network(side):
    batch = first_batch(side)
    learnt = side.learn(side.network.train(), batch)
    assert learnt.probabilities.shape == (5, 3)
    assert not learnt.probabilities.requires_grad
    torch.testing.assert_close(learnt.probabilities.sum(1), torch.ones(5))
    labels = batch.labels if isinstance(side, LesionSide) else batch[1]
    assert torch.equal(learnt.labels, labels)
    learnt.loss.backward()
    assert any(float(parameter.grad.abs().sum()) > 0 for parameter in side.network.parameters())
    side.network.zero_grad()


def test_the_linear_heads_loss_is_scikit_learns_with_class_weights(records):
    side = training_side(PLAIN, records, TASK)
    nn.init.normal_(side.network.get_classifier().weight, 0, 0.01)  # scikit-learn clips chances near 0
    batch = first_batch(side)
    learnt = side.learn(side.network.eval(), batch)
    weights = class_weights(side.dataset.labels, 3, PLAIN.class_weight_cap).numpy()[learnt.labels]
    expected = log_loss(learnt.labels, learnt.probabilities.numpy(), sample_weight=weights, labels=range(3))
    assert learnt.loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_lesion_heads_loss_is_that_of_its_maps_and_the_recipes_settings(records):
    settings = LesionRecipe(presence_elsewhere=0.25)
    side = training_side(LESION.model_copy(update={"lesion": settings}), records, TASK)
    nn.init.normal_(side.network.fine.weight)
    nn.init.normal_(side.network.coarse.weight)
    batch = first_batch(side)
    learnt = side.learn(side.network.eval(), batch)
    with torch.no_grad():
        out = side.network(side.preprocess.normalise(batch.planes))
        logits, _ = account(out, absent=0, positive=2)
        loss = lesion_loss(out, batch, settings, absent=0, positive=2, smoothing=0.1)
    torch.testing.assert_close(learnt.loss.detach(), loss.total)
    torch.testing.assert_close(learnt.probabilities, logits.softmax(1))


# Learning.


def draw(folder, number: int, label: str) -> Record:
    """Speckle with a bright disc anywhere, as the lesion; none in a normal scan."""
    rng = np.random.default_rng(number)
    rows, columns = np.indices((96, 96))
    y, x = rng.uniform(18, 78, 2)
    disc = (rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(9, 13) ** 2
    mask = disc if label != "normal" else np.zeros_like(disc)
    pixels = (rng.gamma(3, 15, (96, 96)) + 120 * mask).clip(0, 255).astype(np.uint8)
    name = f"{label}-{number}"
    Image.fromarray(pixels).save(folder / f"{name}.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}_mask.png")
    return Record(
        folder / f"{name}.png", f"drawn/{name}", label, f"drawn:{name}", "drawn", (folder / f"{name}_mask.png",)
    )


@pytest.mark.slow
def test_the_lesion_head_learns_to_find_what_the_masks_mark(tmp_path):
    """A few epochs on 48 drawn scans; then, on 20 others, is the hottest place inside the disc (5 % of the scan)?"""
    drawn = [draw(tmp_path, number, ("normal", "benign", "malignant")[number % 3]) for number in range(78)]
    train, others = drawn[:48], [record for record in drawn[48:] if record.label != "normal"]
    recipe = Recipe(
        arch="resnet10t", init="scratch", size=64, batch_size=8, precision="fp32", lr=2e-3, head_lr=4e-3, epochs=6,
        augment=0.3, drop=0.0, lesion=LesionRecipe(),
    )  # fmt: skip
    fitted = fit(recipe, train, out=tmp_path / "run")
    hits, boxes = [], []
    for record, reading in zip(others, answer_records(fitted.network, fitted.preprocess, others), strict=True):
        mask = np.asarray(Image.open(record.masks[0])) > 0
        row, column = np.unravel_index(reading.lesion.argmax(), reading.lesion.shape)
        hits.append(mask[12 * row : 12 * row + 12, 12 * column : 12 * column + 12].any())
        box = reading.second.box
        boxes.append(mask[max(0, box.y) : box.y + box.side, max(0, box.x) : box.x + box.side].sum() / mask.sum())
    assert np.mean(hits) >= 0.85  # of 64 places, a disc touches about eight
    assert np.mean(boxes) >= 0.85  # the second stage has most of most discs


@pytest.fixture(scope="module")
def two_hospitals(records):
    """The second hospital has no normal scans, and a third as many."""
    other = [record for record in records if record.label != "normal"][: len(records) // 3]
    return [*records, *(replace(record, source="other") for record in other)]


def test_smaller_sources_come_as_often_as_larger_ones(two_hospitals):
    side = training_side(PLAIN.model_copy(update={"balance": True}), two_hospitals, TASK)
    orders = [[index for batch in side.batches(epoch) for index in batch] for epoch in range(2)]
    assert orders[0] != orders[1]
    n = len(two_hospitals)
    for order in orders:
        assert len(set(order)) == len(order)
        counts = np.bincount([index % n for index in order])
        others = [record.source == "other" for record in two_hospitals]
        assert set(counts[others]) == {3}
        assert set(counts[~np.array(others)]) == {1}


def test_a_hospital_without_normals_says_nothing_about_presence_where_its_weight_is_zero(two_hospitals):
    """The gradient of its scans' loss: none on the absent class's logit, and none on how high both others stand."""
    side = training_side(PLAIN.model_copy(update={"presence_elsewhere": 0.0}), two_hospitals, TASK)
    n = len(two_hospitals)
    batch = side.collate([side.dataset[index] for index in (0, n - 1, n - 2)])
    given = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()

    side.learn(lambda pictures: given, batch).loss.backward()
    assert float(given.grad[0].abs().min()) > 1e-4
    assert given.grad[1:, 0].abs().max() == 0
    assert given.grad[1:].sum(1).abs().max() < 1e-6
    assert given.grad[1:, 1:].abs().min() > 1e-4


def test_leaving_a_class_out_is_the_softmax_over_the_others():
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    left = leave_out(logits, torch.tensor([True, False]), 0).softmax(1)
    torch.testing.assert_close(left[0, 1:], logits[0, 1:].softmax(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(left[1], logits[1].softmax(0))
