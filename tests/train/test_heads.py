"""What each head trains on: its images, their order, its loss; and that a lesion head learns to find lesions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit
from sklearn.metrics import log_loss
from torch import nn
from torch.utils.data import default_collate

from bcx.data.records import Record
from bcx.errors import ConfigError
from bcx.networks.lesion import LesionNetwork, LesionOut, account, pool
from bcx.tasks import get_task
from bcx.train import heads
from bcx.train.answer import answer_records
from bcx.train.config import LesionRecipe, Recipe
from bcx.train.fit import fit
from bcx.train.heads import LesionSide, LinearSide, View, class_weights, leave_out, lesion_loss, training_side

TASK = get_task("breast-ultrasound")
PLAIN = Recipe(arch="mobilenetv2_035", init="scratch", size=64, batch_size=5, precision="fp32", label_smoothing=0.0)
LESION = PLAIN.model_copy(update={"lesion": LesionRecipe(), "label_smoothing": 0.1})


@pytest.fixture(scope="module", params=[PLAIN, LESION], ids=["linear", "lesion"])
def side(request, records):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return training_side(request.param, records, TASK)


def first_batch(side):
    return default_collate([side.dataset[which] for which in side.batches(0)[0]])


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
    loss, probabilities = side.learn(side.network.train(), batch)
    assert probabilities.shape == (5, 3)
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities.sum(1), torch.ones(5))
    loss.backward()
    assert any(float(parameter.grad.abs().sum()) > 0 for parameter in side.network.parameters())
    side.network.zero_grad()


def test_the_linear_heads_loss_is_scikit_learns_with_class_weights(records):
    side = training_side(PLAIN, records, TASK)
    nn.init.normal_(side.network.get_classifier().weight, 0, 0.01)  # scikit-learn clips chances near 0
    batch = first_batch(side)
    loss, probabilities = side.learn(side.network.eval(), batch)
    weights = class_weights(side.dataset.labels, 3, PLAIN.class_weight_cap).numpy()[batch.label]
    expected = log_loss(batch.label, probabilities.numpy(), sample_weight=weights, labels=range(3))
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_lesion_heads_loss_is_that_of_its_maps_and_the_recipes_settings(records):
    settings = LesionRecipe(presence_elsewhere=0.25)
    side = training_side(LESION.model_copy(update={"lesion": settings}), records, TASK)
    nn.init.normal_(side.network.fine.weight)
    nn.init.normal_(side.network.coarse.weight)
    batch = first_batch(side)
    learnt, probabilities = side.learn(side.network.eval(), batch)
    with torch.no_grad():
        out = side.network(side.preprocess.normalise(batch.plane))
        logits, _ = account(out, absent=0, positive=2)
        loss = lesion_loss(out, batch, settings, absent=0, positive=2, smoothing=0.1)
    torch.testing.assert_close(learnt.detach(), loss.total)
    torch.testing.assert_close(probabilities, logits.softmax(1))


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
    batch = default_collate([side.dataset[index] for index in (0, n - 1, n - 2)])
    given = torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()

    side.learn(lambda pictures: given, batch)[0].backward()
    assert float(given.grad[0].abs().min()) > 1e-4
    assert given.grad[1:, 0].abs().max() == 0
    assert given.grad[1:].sum(1).abs().max() < 1e-6
    assert given.grad[1:, 1:].abs().min() > 1e-4


def test_leaving_a_class_out_is_the_softmax_over_the_others():
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0]])
    left = leave_out(logits, torch.tensor([True, False]), 0).softmax(1)
    torch.testing.assert_close(left[0, 1:], logits[0, 1:].softmax(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(left[1], logits[1].softmax(0))


NORMAL, BENIGN, MALIGNANT = range(3)
LABELS = [NORMAL, BENIGN, MALIGNANT, MALIGNANT, BENIGN, NORMAL]
#: Of these six views the fourth has no mask, and the last two come from a hospital ...
HAS_MASK = [True, True, True, False, True, True]
#: ... of which we say, in the tests that need it, that it has no scans without a lesion.
WITH_ABSENT = [True, True, True, True, False, True]
SIDE = 8


def make_out(seed: int = 0) -> LesionOut:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((6, SIDE, SIDE), (6, SIDE, SIDE), (6, SIDE // 4, SIDE // 4), (6, 5))
    return LesionOut(*(torch.randn(*shape, generator=generator).requires_grad_() for shape in shapes))


def make_views(labels=LABELS, has_mask=HAS_MASK, with_absent=WITH_ABSENT) -> View:
    """Lesions of 3 x 4 places with soft edges, each at its own place."""
    masks = torch.zeros(len(labels), SIDE, SIDE)
    for number, label in enumerate(labels):
        if label != NORMAL and has_mask[number]:
            masks[number, number % 4 : number % 4 + 3, 2:6] = 1
            masks[number, number % 4, 2:6] = 0.4
    planes = torch.zeros(len(labels), 8 * SIDE, 8 * SIDE, dtype=torch.uint8)
    return View(planes, masks, torch.tensor(labels), torch.tensor(has_mask), torch.tensor(with_absent))


def compute(out, views, smoothing=0.0, elsewhere=0.5):
    settings = LesionRecipe(presence_elsewhere=elsewhere)
    return lesion_loss(out, views, settings, absent=NORMAL, positive=MALIGNANT, smoothing=smoothing)


def cross_entropy(chances, truths, weights) -> float:
    """Scikit-learn's weighted mean; a truth of .8 is eight parts "yes" and two parts "no"."""
    chances, truths, weights = (np.asarray(values, float).ravel() for values in (chances, truths, weights))
    answers = np.concatenate([np.ones_like(truths), np.zeros_like(truths)])
    return log_loss(
        answers, np.tile(chances, 2), sample_weight=np.concatenate([weights * truths, weights * (1 - truths)])
    )


def smoothed(truths, smoothing):
    return np.asarray(truths, float) * (1 - smoothing) + smoothing / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_kind_is_told_under_the_predicted_lesion_and_under_the_true_one(smoothing):
    out, views = make_out(), make_views()
    labels = np.array(LABELS)
    weights = np.select([labels == MALIGNANT, labels == BENIGN], [heads._POSITIVE, heads._NEGATIVE], 0.0)
    truths = smoothed(labels == MALIGNANT, smoothing)
    predicted = cross_entropy(expit(2 * pool(out).malignancy.detach().numpy()), truths, weights)
    masked = weights * np.array(HAS_MASK)
    evidence, masks = out.evidence.detach().numpy(), views.mask.numpy()
    under = [np.average(e, weights=m) if m.any() else 0.0 for e, m in zip(evidence, masks, strict=True)]
    true = cross_entropy(expit(2 * np.array(under)), truths, masked)
    assert compute(out, views, smoothing).kind.item() == pytest.approx((predicted + true) / 2, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("elsewhere", [0.0, 0.5, 1.0])
def test_presence_is_one_minus_the_chance_of_the_absent_class(smoothing, elsewhere):
    out, views = make_out(1), make_views()
    logits, _ = account(out, absent=NORMAL, positive=MALIGNANT)
    chances = 1 - logits.detach().double().softmax(1)[:, NORMAL].numpy()
    lesion = np.array(LABELS) != NORMAL
    weights = np.where(lesion, 1.0, LesionRecipe().absent) * np.where(WITH_ABSENT, 1.0, elsewhere)
    expected = cross_entropy(chances, smoothed(lesion, smoothing), weights)
    assert compute(out, views, smoothing, elsewhere).presence.item() == pytest.approx(expected, rel=1e-5)


def test_the_mask_term_is_cross_entropy_of_every_place_and_one_minus_dice():
    out, views = make_out(2), make_views()
    chance = expit(out.lesion.detach().double().numpy())
    terms = []
    for p, m in zip(chance[HAS_MASK], views.mask.double().numpy()[HAS_MASK], strict=True):
        # The sum over places, of which each is so much lesion and so much not; a place of lesion weighs more.
        weights = np.concatenate([(m * heads._LESION_PIXEL).ravel(), (1 - m).ravel()])
        sums = log_loss(np.repeat([1, 0], m.size), np.tile(p.ravel(), 2), sample_weight=weights, normalize=False)
        dice = (2 * (p * m).sum() + 1) / (p.sum() + m.sum() + 1)
        terms.append(sums / m.size + 1 - dice)
    assert compute(out, views).mask.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_the_total_weighs_the_terms():
    loss = compute(make_out(3), make_views())
    parts = loss.kind + LesionRecipe().presence * loss.presence + heads._MASK * loss.mask
    assert loss.total.item() == pytest.approx(parts.item())
    assert all(part.item() > 0 for part in loss)


def gradients(out, term) -> LesionOut:
    return LesionOut(*torch.autograd.grad(term, list(out), retain_graph=True, materialize_grads=True))


def moved(gradient: torch.Tensor) -> list[bool]:
    """Which of the batch's views have any say."""
    return (gradient.flatten(1).abs().sum(1) > 0).tolist()


def test_a_view_without_a_mask_teaches_kind_and_presence_but_not_where():
    out, views = make_out(4), make_views()
    loss = compute(out, views)
    assert moved(gradients(out, loss.mask).lesion) == HAS_MASK
    assert moved(gradients(out, loss.kind).evidence)[3]
    assert all(moved(gradients(out, loss.presence).lesion))


def test_views_without_a_lesion_say_nothing_about_its_kind():
    out, views = make_out(6), make_views()
    lesions = [label != NORMAL for label in LABELS]
    of_kind = gradients(out, compute(out, views).kind)
    assert moved(of_kind.evidence) == lesions
    assert moved(of_kind.lesion) == lesions


def test_a_hospital_without_normals_may_be_left_out_of_presence():
    out, views = make_out(7), make_views()
    without = compute(out, views, elsewhere=0.0)
    assert moved(gradients(out, without.presence).lesion) == WITH_ABSENT
    assert moved(gradients(out, without.presence).context) == WITH_ABSENT
    assert moved(gradients(out, without.kind).evidence)[4]  # it still teaches the kind ...
    assert moved(gradients(out, without.mask).lesion)[4]  # ... and the place
    assert all(moved(gradients(out, compute(out, views, elsewhere=0.5).presence).lesion))


@pytest.mark.parametrize(
    ("views", "silent"),
    [
        (make_views([NORMAL] * 6, [True] * 6), "kind"),
        (make_views(has_mask=[False] * 6), "mask"),
        (make_views(with_absent=[False] * 6), "presence"),
    ],
    ids=["nothing but normals", "no masks", "no hospital with normals"],
)
def test_a_batch_that_says_nothing_of_a_term_gives_zero_and_no_gradient(views, silent):
    out = make_out(8)
    loss = compute(out, views, elsewhere=0.0)
    term = getattr(loss, silent)
    assert term.item() == 0
    assert all(not any(moved(gradient)) for gradient in gradients(out, term))
    assert torch.isfinite(loss.total)
