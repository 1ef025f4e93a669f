"""The lesion head: what it says in numbers, that every map accounts for its logit, and what it can stand on."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import timm
import torch
from scipy.special import expit, logsumexp
from torch import nn

from bcx.errors import ConfigError
from bcx.networks.build import build_lesion_network, build_network, fold_norms, forward_maps
from bcx.networks.lesion import LEAST_ATTENTION, LESION_SHARE, LesionNetwork, LesionOut, account, pool, presence_odds
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")
NORMAL, BENIGN, MALIGNANT = range(3)
SIDE = 64


def make_out(seed: int, spread: float, side: int = 28, batch: int = 3) -> LesionOut:
    """Random maps; `spread` is their standard deviation in logit units."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return spread * torch.randn(batch, *shape, generator=generator)

    return LesionOut(draw(side, side), draw(side, side), draw(side // 4, side // 4), draw(8))


def scores_by_scipy(out: LesionOut) -> tuple[np.ndarray, np.ndarray]:
    """Presence and malignancy from the definition, in float64."""
    lesion, evidence, context = (part.double().flatten(1).numpy() for part in out[:3])
    soft = logsumexp(2 * lesion, axis=1, b=1 / (LESION_SHARE * lesion.shape[1])) / 2
    attention = expit(lesion) + LEAST_ATTENTION
    return soft + context.mean(1), (attention * evidence).sum(1) / attention.sum(1)


@pytest.fixture(scope="module")
def network():
    """Random weights, and batch norms and last convolutions that do something, as after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        built = build_lesion_network("mobilenetv2_035", TASK).eval()
        with torch.no_grad():
            for module in built.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 2)
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0, 0.1)
            for last in (built.fine, built.coarse):
                last.weight.normal_(0, 0.3)
                last.bias.normal_(0, 1)
    return built


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


# The numbers.


@pytest.mark.parametrize("spread", [0, 0.1, 1, 5, 40])
@pytest.mark.parametrize("side", [4, 28])
def test_the_logits_are_those_of_the_definition(spread, side):
    out = make_out(0, spread, side)
    logits, _ = account(out, absent=NORMAL, positive=MALIGNANT)
    p, m = scores_by_scipy(out)
    np.testing.assert_allclose(logits, np.stack([-p, p - m, p + m], 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spread", [0, 0.1, 1, 5, 40])
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_of_every_map_is_its_logit(spread, seed):
    out = make_out(seed, spread)
    logits, maps = account(out, absent=NORMAL, positive=MALIGNANT)
    assert maps.shape == (3, 3, 28, 28)
    exact = maps.double().mean((2, 3)).float()
    torch.testing.assert_close(exact, logits, rtol=1e-5, atol=1e-5 * max(1, spread))


def test_presence_odds_are_those_of_the_class_logits():
    out = make_out(5, 2)
    logits = account(out, absent=NORMAL, positive=MALIGNANT)[0].double().numpy()
    expected = logsumexp(logits[:, [BENIGN, MALIGNANT]], axis=1) - logits[:, NORMAL]
    np.testing.assert_allclose(presence_odds(pool(out)), expected, rtol=1e-5)


@pytest.mark.parametrize(("absent", "positive"), list(permutations(range(3), 2)))
def test_the_classes_may_stand_in_any_order(absent, positive):
    out = make_out(6, 2)
    usual = account(out, absent=NORMAL, positive=MALIGNANT)
    other = account(out, absent=absent, positive=positive)
    order = [absent, 3 - absent - positive, positive]
    for found, expected in zip(other, usual, strict=True):
        assert torch.equal(found[:, order], expected)


@pytest.mark.parametrize("value", [0.5, 3.0])
def test_a_small_lesion_is_worth_its_own_logit(value):
    """One that fills `LESION_SHARE` of the picture, on ground that is surely none, and no word from the context."""
    lesion = torch.full((1, 1000), -20.0)
    lesion[0, : round(1000 * LESION_SHARE)] = value
    out = LesionOut(lesion.view(1, 25, 40), torch.zeros(1, 25, 40), torch.zeros(1, 5, 8), torch.zeros(1, 8))
    assert float(pool(out).presence) == pytest.approx(value, abs=1e-4)


def bright_place(evidence_elsewhere: float = 0.0) -> LesionOut:
    """A lesion of 3 x 3 places that speaks for malignant, and evidence of another kind where no lesion is."""
    lesion, evidence = torch.full((1, 28, 28), -8.0), torch.full((1, 28, 28), evidence_elsewhere)
    lesion[0, 10:13, 20:23], evidence[0, 10:13, 20:23] = 4.0, 2.0
    return LesionOut(lesion, evidence, torch.zeros(1, 7, 7), torch.zeros(1, 8))


def test_one_bright_place_decides_and_every_map_points_there():
    logits, maps = account(bright_place(), absent=NORMAL, positive=MALIGNANT)
    assert logits.argmax(1).item() == MALIGNANT
    inside = torch.zeros(28, 28, dtype=torch.bool)
    inside[10:13, 20:23] = True
    for number, sign in ((MALIGNANT, 1), (NORMAL, -1)):
        plane = sign * maps[0, number]
        assert plane[inside].min() > plane[~inside].max()
        assert plane[inside].sum() / plane.abs().sum() > 0.95
    # The two kinds differ by what the evidence says, which counts where the lesion is.
    which = (maps[0, MALIGNANT] - maps[0, BENIGN]) / 2
    assert which[inside].sum() / which.abs().sum() > 0.9


@pytest.mark.parametrize("elsewhere", [-2.0, 2.0])
def test_evidence_beside_the_lesion_hardly_counts(elsewhere):
    alone, beside = pool(bright_place()).malignancy, pool(bright_place(elsewhere)).malignancy
    # 775 places whose attention is the least, against 9 that have nearly all of it.
    share = 775 * (expit(-8) + LEAST_ATTENTION) / (9 * expit(4))
    assert abs(float(beside - alone)) <= 2 * share
    assert share < 0.15


# The network.


def test_the_networks_maps_account_for_its_logits(network, pictures):
    with torch.inference_mode():
        out = forward_maps(network, pictures)
        read = network(pictures)
    assert out.maps.shape == (2, 3, SIDE // 8, SIDE // 8)
    scale = float(out.logits.abs().max())
    assert float(out.logits.std()) > 0.1  # there is something to compare
    torch.testing.assert_close(out.maps.mean((2, 3)), out.logits, rtol=0, atol=1e-5 * scale)
    np.testing.assert_allclose(out.lesion, expit(read.lesion.numpy()), atol=1e-6)
    p, m = scores_by_scipy(read)
    np.testing.assert_allclose(out.logits, np.stack([-p, p - m, p + m], 1), atol=1e-5 * scale)


def test_the_gate_reads_the_same_stages_from_either_head(network, pictures):
    linear = build_network("mobilenetv2_035", 3).eval()
    linear.load_state_dict(network.backbone.state_dict(), strict=False)
    with torch.inference_mode():
        torch.testing.assert_close(forward_maps(linear, pictures).stages, forward_maps(network, pictures).stages)


def test_gradients_reach_every_parameter(network, pictures):
    network.zero_grad()
    loss = nn.functional.cross_entropy(forward_maps(network, pictures).logits, torch.tensor([BENIGN, MALIGNANT]))
    loss.backward()
    still = [name for name, parameter in network.named_parameters() if not float(parameter.grad.abs().sum()) > 0]
    assert still == []
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    network.zero_grad()


def test_a_new_head_is_undecided_but_expects_small_lesions(pictures):
    network = build_lesion_network("mobilenetv2_035", TASK).eval()
    with torch.inference_mode():
        out = forward_maps(network, pictures)
    torch.testing.assert_close(out.logits[:, BENIGN], out.logits[:, MALIGNANT])
    assert float(out.lesion.max()) < 0.2


def test_dropout_acts_while_training_only(pictures):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_lesion_network("mobilenetv2_035", TASK, drop=0.5).eval()
        nn.init.normal_(network.fine.weight)
        nn.init.normal_(network.coarse.weight)
        with torch.inference_mode():
            assert torch.equal(network(pictures).lesion, network(pictures).lesion)
            network.train()
            assert not torch.equal(network(pictures).lesion, network(pictures).lesion)


def count(network, kind):
    return sum(isinstance(module, kind) for module in network.modules())


def test_folding_removes_every_batch_norm_and_changes_no_answer(network, pictures):
    folded = fold_norms(network)
    assert count(network, nn.BatchNorm2d) > 50
    assert count(folded, nn.BatchNorm2d) == 0
    with torch.inference_mode():
        for found, right in zip(forward_maps(folded, pictures), forward_maps(network, pictures), strict=True):
            torch.testing.assert_close(found, right, rtol=0, atol=1e-5 * float(right.abs().max()))


def test_a_residual_network_will_do_as_well(pictures):
    network = build_lesion_network("resnet10t", TASK).eval()
    with torch.inference_mode():
        out = forward_maps(network, pictures)
    assert (out.logits.shape, out.maps.shape, out.lesion.shape) == ((2, 3), (2, 3, 8, 8), (2, 8, 8))


@pytest.mark.parametrize(
    ("arch", "options"), [("mobilenetv2_035", {"output_stride": 16}), ("vit_tiny_patch16_224", {"depth": 1})]
)
def test_a_backbone_without_stages_at_an_eighth_a_sixteenth_and_a_32nd_is_refused(arch, options):
    backbone = timm.create_model(arch, num_classes=0, **options)
    with pytest.raises(ConfigError, match=r"stand at 1/\[.*16\]") as caught:
        LesionNetwork(backbone, absent=NORMAL, positive=MALIGNANT)
    assert "head: linear" in caught.value.remedy


def test_a_module_that_knows_nothing_of_stages_is_refused():
    with pytest.raises(ConfigError, match="stages"):
        LesionNetwork(nn.Conv2d(3, 8, 1), absent=NORMAL, positive=MALIGNANT)


@pytest.mark.parametrize(
    "changes",
    [
        {"absent": None},
        {"classes": ("normal", "malignant"), "colours": ("#009E73", "#D55E00"), "meaning": ("No.", "Yes.")},
    ],
    ids=["nothing means nothing", "one kind only"],
)
def test_a_task_without_an_absent_class_and_two_others_is_refused(changes):
    with pytest.raises(ConfigError, match="nothing there"):
        build_lesion_network("mobilenetv2_035", replace(TASK, **changes))
