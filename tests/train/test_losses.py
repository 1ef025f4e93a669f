"""The lesion head's loss: each term against scikit-learn's or the definition, and who drops out of which."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import log_loss

from bcx.networks.lesion import LesionOut, account, pool
from bcx.train import losses
from bcx.train.config import LesionRecipe
from bcx.train.losses import lesion_loss
from bcx.train.views import Views

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


def make_views(labels=LABELS, has_mask=HAS_MASK, with_absent=WITH_ABSENT) -> Views:
    """Lesions of 3 x 4 places with soft edges, each at its own place."""
    masks = torch.zeros(len(labels), SIDE, SIDE)
    for number, label in enumerate(labels):
        if label != NORMAL and has_mask[number]:
            masks[number, number % 4 : number % 4 + 3, 2:6] = 1
            masks[number, number % 4, 2:6] = 0.4
    planes = torch.zeros(len(labels), 8 * SIDE, 8 * SIDE, dtype=torch.uint8)
    return Views(planes, masks, torch.tensor(labels), torch.tensor(has_mask), torch.tensor(with_absent))


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
    weights = np.select([labels == MALIGNANT, labels == BENIGN], [losses._POSITIVE, losses._NEGATIVE], 0.0)
    truths = smoothed(labels == MALIGNANT, smoothing)
    predicted = cross_entropy(expit(2 * pool(out).malignancy.detach().numpy()), truths, weights)
    masked = weights * np.array(HAS_MASK)
    evidence, masks = out.evidence.detach().numpy(), views.masks.numpy()
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
    for p, m in zip(chance[HAS_MASK], views.masks.double().numpy()[HAS_MASK], strict=True):
        # The sum over places, of which each is so much lesion and so much not; a place of lesion weighs more.
        weights = np.concatenate([(m * losses._LESION_PIXEL).ravel(), (1 - m).ravel()])
        sums = log_loss(np.repeat([1, 0], m.size), np.tile(p.ravel(), 2), sample_weight=weights, normalize=False)
        dice = (2 * (p * m).sum() + 1) / (p.sum() + m.sum() + 1)
        terms.append(sums / m.size + 1 - dice)
    assert compute(out, views).mask.item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_the_total_weighs_the_terms():
    loss = compute(make_out(3), make_views())
    parts = loss.kind + LesionRecipe().presence * loss.presence + losses._MASK * loss.mask
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
