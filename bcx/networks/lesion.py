"""The lesion head: is there a lesion, where, and is what is there malignant?

Three maps come from one pass over the backbone, each a 1x1 convolution (linear) of its features:

- *lesion* l, at 1/8 of the input: does this place belong to a lesion? Trained against the masks;
- *evidence* e, on the same grid: does this place speak for malignant (+) or benign (-)?
- *context* g, at 1/32: what the whole image says about the presence of a lesion.

The answer reads the evidence **where the lesion is**:

- presence  p = log(sum(exp(2 l)) / (0.03 places)) / 2 + mean(g)    (a soft maximum of the lesion map, plus context)
- malignancy m = sum(a e) / sum(a)                                   with the attention a = sigmoid(l) + 0.001

The class logits are -p (the absent class), p - m (benign) and p + m (malignant). Each class's map is an additive
account of its logit, given the attention: its mean over the grid *is* the logit, with no bias left over.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from bcx.errors import ConfigError

LESION_SHARE = 0.03  # of the grid, at which "soft maximum" and plain mean weigh the same: a small lesion
LEAST_ATTENTION = 0.001  # of a place that shows no lesion at all, so that the evidence has a mean in any case
_SHARPNESS = 2.0  # of the soft maximum
_CHANNELS = 96  # of the pyramid
_SMALL_LESIONS_FIRST = -2.0  # the lesion map's bias at the start: most of a scan is no lesion
_STAGES = 4  # the backbone's last stages, of which three feed the pyramid


class LesionOut(NamedTuple):
    """What the head reads from one batch, float32."""

    lesion: torch.Tensor  # `[B, h, w]`, logits
    evidence: torch.Tensor  # `[B, h, w]`, half log-odds of malignant against benign
    context: torch.Tensor  # `[B, h / 4, w / 4]`, presence score
    stages: torch.Tensor  # `[B, K]`, channel means of the backbone's last four stages


class LesionNetwork(nn.Module):
    """A timm backbone with a small feature pyramid (Lin et al. 2017) and the lesion head on top."""

    def __init__(self, backbone: nn.Module, *, absent: int, positive: int, drop: float = 0.0) -> None:
        """Put the head on a backbone from timm, with stages at 1/8, 1/16 and 1/32 of the input.

        Args:
            absent, positive: positions of "nothing there" and of the class that + evidence speaks for.
            drop: dropout of whole channels before the last convolutions, while training.
        """
        super().__init__()
        info = getattr(backbone, "feature_info", None)
        steps = [stage["reduction"] for stage in info][-3:] if info else []
        if steps != [8, 16, 32] or not hasattr(backbone, "forward_intermediates"):
            raise ConfigError(
                f"The last stages of this backbone stand at 1/{steps} of the input.",
                expected="stages at 1/8, 1/16 and 1/32, as in mobilenetv2_100 or resnet50",
                remedy="Choose such an architecture, or head: linear.",
            )
        self.backbone = backbone
        self.absent, self.positive, self.drop = absent, positive, drop
        fine, middle = (int(backbone.feature_info[number]["num_chs"]) for number in (-3, -2))
        self.lateral5 = _pointwise(backbone.num_features)
        self.lateral4, self.lateral3 = _pointwise(middle), _pointwise(fine)
        self.smooth4, self.smooth3 = _separable(), _separable()
        self.fine = nn.Conv2d(_CHANNELS, 2, 1)
        self.coarse = nn.Conv2d(backbone.num_features, 3, 1)
        for last in (self.fine, self.coarse):  # every answer starts undecided
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        nn.init.constant_(self.fine.bias[:1], _SMALL_LESIONS_FIRST)

    def read(self, batch: torch.Tensor) -> LesionOut:
        """Run backbone and head on float32 `[B, 3, S, S]`, normalised; S a multiple of 32."""
        last, stages = self.backbone.forward_intermediates(batch, indices=_STAGES)
        pyramid = self.smooth4(functional.relu6(self.lateral4(stages[2]) + _double(self.lateral5(last))))
        pyramid = self.smooth3(functional.relu6(self.lateral3(stages[1]) + _double(pyramid)))
        coarse = self.coarse(functional.dropout2d(last, self.drop, self.training))
        fine = self.fine(functional.dropout2d(pyramid, self.drop / 2, self.training))
        # Linear in both: what the deepest features say is spread over the finer grid.
        both = fine.float() + functional.interpolate(
            coarse[:, :2].float(), scale_factor=4.0, mode="bilinear", align_corners=False
        )
        described = torch.cat([stage.float().mean((2, 3)) for stage in stages], 1)
        return LesionOut(both[:, 0], both[:, 1], coarse[:, 2].float(), described)

    forward = read  # what wrappers of modules call

    @torch.no_grad()
    def fix_context(self, score: float) -> None:
        """Make the context this score for every scan."""
        self.coarse.weight[2] = 0
        assert self.coarse.bias is not None
        self.coarse.bias[2] = score


class Scores(NamedTuple):
    """The two numbers that an answer is made of, each `[B]`: half log-odds, before temperature."""

    presence: torch.Tensor
    malignancy: torch.Tensor


def pool(out: LesionOut) -> Scores:
    lesion, evidence = out.lesion.flatten(1), out.evidence.flatten(1)
    soft = torch.logsumexp(_SHARPNESS * lesion, 1) - math.log(LESION_SHARE * lesion.shape[1])
    attention = torch.sigmoid(lesion) + LEAST_ATTENTION
    malignancy = (attention * evidence).sum(1) / attention.sum(1)
    return Scores(soft / _SHARPNESS + out.context.mean((1, 2)), malignancy)


def presence_odds(scores: Scores) -> torch.Tensor:
    """Return `[B]`: log-odds of "a lesion, of either kind" against the absent class, under the class logits."""
    return 2 * scores.presence + torch.logaddexp(scores.malignancy, -scores.malignancy)


def account(out: LesionOut, *, absent: int, positive: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the class logits `[B, 3]`, and maps `[B, 3, h, w]` whose means over the grid they are.

    The soft maximum is an average of the lesion map under the weights softmax(2 l), plus a term that belongs to no
    place (their entropy); that term is handed out by the same weights, so that places without a lesion get none of it.
    """
    scores = pool(out)
    lesion = out.lesion.flatten(1)
    places = lesion.shape[1]
    weight = torch.softmax(_SHARPNESS * lesion, 1)
    rest = (scores.presence - out.context.mean((1, 2)) - (weight * lesion).sum(1))[:, None]
    where = (places * weight * (lesion + rest)).view_as(out.lesion)
    where = where + functional.interpolate(out.context[:, None], size=where.shape[1:], mode="nearest")[:, 0]
    attention = torch.sigmoid(lesion) + LEAST_ATTENTION
    share = attention / attention.sum(1, keepdim=True)
    which = (places * share * out.evidence.flatten(1)).view_as(out.lesion)
    negative = 3 - absent - positive
    logits, maps = [scores.presence] * 3, [where] * 3
    logits[absent], maps[absent] = -scores.presence, -where
    logits[positive], maps[positive] = scores.presence + scores.malignancy, where + which
    logits[negative], maps[negative] = scores.presence - scores.malignancy, where - which
    return torch.stack(logits, 1), torch.stack(maps, 1)


def _double(features: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")


def _pointwise(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, _CHANNELS, 1, bias=False), nn.BatchNorm2d(_CHANNELS))


def _separable() -> nn.Sequential:
    """A depthwise and a pointwise convolution, each with its norm, as MobileNet's (Howard et al. 2017)."""
    depthwise = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, groups=_CHANNELS, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(_CHANNELS), nn.ReLU6(), *_pointwise(_CHANNELS), nn.ReLU6())
