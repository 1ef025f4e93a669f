"""What published recipes need: oversampling, frozen parts, dense heads, Adam, their augmentation."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from bcx.imaging.preprocess import Preprocess, resize
from bcx.networks.dense import DenseNetwork
from bcx.simulate import simulate
from bcx.tasks import get_task
from bcx.train.answer import answer_records, stacked_logits
from bcx.train.augment import Augmentation
from bcx.train.config import DenseRecipe, Recipe
from bcx.train.fit import fit, freeze_parts
from bcx.train.heads import ScanDataset, training_side

TASK = get_task("breast-ultrasound")
RECIPE = Recipe(
    arch="mobilenetv2_035",
    init="scratch",
    size=50,
    batch_size=8,
    precision="fp32",
    epochs=1,
    dense=DenseRecipe(pool="flatten", widths=(8,), drops=(0.0, 0.5)),
    freeze_base=True,
    oversample=True,
    optimizer="adam",
    schedule="constant",
    head_lr=0.003,
    weight_decay=0.0,
    clip=None,
    class_weight_cap=None,
    augmentation="turn-shift-shear",
)


@pytest.fixture(scope="module")
def fewer(records):
    """Two benign scans are left out, so that the classes differ."""
    benign = [record for record in records if record.label == "benign"]
    return [record for record in records if record not in benign[2:]]


def test_oversampling_shows_every_scan_and_every_class_as_often_as_the_largest():
    labels = [0] * 5 + [1] * 20 + [2] * 11

    def drawn(epoch):
        dataset = ScanDataset([], TASK, Preprocess(), augment=0, seed=0)
        dataset.labels, dataset.epoch = labels, epoch
        return dataset.order(balance=False, oversample=True)

    first, second = drawn(0), drawn(1)
    for order in (first, second):
        assert Counter(labels[index % 36] for index in order) == {0: 20, 1: 20, 2: 20}
        assert {index % 36 for index in order} == set(range(36))
        assert len(set(order)) == 60  # a scan that comes again has an index of its own
        counts = Counter(index % 36 for index in order)
        assert set(order) == {i + 36 * turn for i, count in counts.items() for turn in range(count)}
    assert first == drawn(0)
    assert Counter(i % 36 for i in first) != Counter(i % 36 for i in second)  # drawn anew


def test_a_scan_that_comes_again_is_varied_in_another_way(fewer):
    side = training_side(RECIPE, fewer, TASK)
    n = len(fewer)
    assert sum(map(len, side.batches(0))) == 12
    (picture, label, _), (again, same, _) = side.dataset[3], side.dataset[3 + n]
    assert label == same
    assert not np.array_equal(picture, again)
    assert picture.shape == (50, 50)


@pytest.mark.slow
def test_only_the_dense_head_learns_on_a_frozen_base(fewer, tmp_path):
    torch.manual_seed(0)
    fitted = fit(RECIPE, fewer, out=tmp_path)
    assert isinstance(fitted.network, DenseNetwork)
    from accelerate.utils import set_seed

    set_seed(RECIPE.seed)
    start = training_side(RECIPE, fewer, TASK).network.state_dict()
    for name, value in fitted.network.state_dict().items():
        assert torch.equal(value, start[name]) == name.startswith("backbone."), name  # running statistics too
    assert fitted.history[0]["lr"] == 0.003
    assert stacked_logits(answer_records(fitted.network, fitted.preprocess, fewer), 3).shape == (10, 3)


def test_a_frozen_base_leaves_the_linear_heads_dropout_on(fewer):
    side = training_side(RECIPE.model_copy(update={"dense": None, "drop": 0.5}), fewer, TASK)
    frozen = freeze_parts(side.backbone, RECIPE)
    learning = {name for name, p in side.network.named_parameters() if p.requires_grad}
    assert learning == {"classifier.weight", "classifier.bias"}
    side.network.train()
    for module in frozen:
        module.eval()
    nn.init.normal_(side.network.classifier.weight)
    batch = torch.randn(2, 3, 50, 50)
    assert not torch.equal(side.network(batch), side.network(batch))
    norms = [module for module in side.network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training for norm in norms)


@pytest.mark.parametrize("name", ["turn-shift-shear", "turn-zoom"])
def test_published_augmentation_fills_its_borders_and_mirrors_half(name):
    """A white picture stays white: what a turn leaves empty is filled. Half of the draws are mirrored."""
    augment = Augmentation(name, 64)
    white = np.full((64, 64), 255, np.uint8)
    assert all((augment(white, None, seed)[0] == 255).all() for seed in range(20))
    scan = simulate("benign", 3, height=120, width=140).pixels
    plane = resize(scan, 64, 64)
    drawn = [augment(plane, None, seed)[0].astype(float) for seed in range(100)]
    nearer = [np.abs(d - plane).mean() > np.abs(d[:, ::-1] - plane).mean() for d in drawn]
    assert 25 < sum(nearer) < 75
    assert np.abs(np.mean(drawn, 0).std() - plane.std()) > 1  # they do differ
