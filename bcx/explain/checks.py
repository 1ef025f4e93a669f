"""Does a map belong to the answer? One map, tested in a second or two, in numbers and one sentence.

Parts of the scan are hidden and it is answered again; the map is made again of the scan slightly changed, and of a
network whose weights are random. Every test starts from fixed seeds: the same map gets the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from bcx.explain.hiding import hide, hottest_region, moved
from bcx.explain.methods import Explanation, explain, explain_network, one_core
from bcx.imaging.crop import cut
from bcx.inference.classifier import Classifier
from bcx.inference.prediction import Prediction
from bcx.inference.two_stage import Enlarged
from bcx.networks.run import run_network

#: The maps of two patients are less alike than this in 95 % of pairs (rank correlation), by lesion networks and by a
#: whole-image one. A map must be less like a random network's, and more like a slightly changed scan's. Of each slow
#: method, at the end, six pairs were measured by either (results/studies/explanations).
ALIKE = {
    "exact": (0.64, 0.92),
    "grad-cam": (0.9, 0.93),
    "hirescam": (0.87, 0.93),
    "grad-cam++": (0.81, 0.94),
    "xgrad-cam": (0.86, 0.93),
    "layercam": (0.89, 0.93),
    "eigen-cam": (0.88, 0.94),
    "eigengrad-cam": (0.71, 0.94),
    "ablation-cam": (0.62, 0.78),
    "score-cam": (0.81, 0.79),
    "integrated-gradients": (0.89, 0.73),
    "smoothgrad": (0.83, 0.86),
    "occlusion": (0.5, 0.43),
}
#: Hiding the hottest region must lower the probability by this much more than hiding as much elsewhere. Four of five
#: maps of another scan do not (results/studies/explanations).
MORE_THAN_ELSEWHERE = 0.23
HOTTEST = 0.05  # share of the scan that holds the hottest region: the connected part around the hottest pixel
STEPS = (0.05, 0.15, 0.4)  # shares of the scan that are hidden or shown, hottest first
PLACES = 3  # others that an equal region is hidden at
ROAD_PERCENTILES, _ROAD_SIDE = (60, 80, 90), 64  # of the map, above or below which ROAD removes pixels; on which grid
_TILES, _COMPARED = 16, 32  # a side: what is hidden or shown at once; the grid on which two maps are compared
_NOISE, _ZOOM = 4.0, 1.005  # grey values, and by how much


@dataclass(frozen=True)
class Checks:
    """What the tests of one map found. Probabilities are those of the class that is explained."""

    probability: float  # of the scan as it is
    drop_here: float | None  # by how much hiding the hottest region lowers it; None where the map is empty
    drop_elsewhere: float | None  # by an equal region elsewhere, mean of up to `PLACES`; None where none fits
    deletion: float  # mean probability while the hottest `STEPS` are hidden; a good map lowers it
    deletion_random: float  # while random ones are
    insertion: float  # mean probability while a blurred scan gets them back; a good map raises it
    insertion_random: float
    road: float  # half of (removing what is least relevant - what is most relevant), Rong et al. 2022; right above 0
    mirror: float  # rank correlation with the map of the mirrored scan
    noise: float  # of a scan with noise of 4 grey values
    zoom: float  # of one that is half a per cent larger
    random_head: float  # once the weights of the head are random (Adebayo et al. 2018)
    random_network: float  # once all are
    lesion_share: float | None  # of what speaks for the class, inside the outlined lesion; None where there is none
    verdict: str = ""  # what follows, in words
    limits: dict[str, float] = field(default_factory=dict)  # that the verdict follows from

    def to_dict(self) -> dict[str, Any]:
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def check(classifier: Classifier, explanation: Explanation) -> Checks:
    """Test a map of this classifier's; the exact one takes some 25 answers of the network, another also five maps."""
    checks = Checks(
        **faithfulness(classifier, explanation),
        lesion_share=_lesion_share(explanation),
        **_stability(classifier, explanation),
        **_sanity(classifier, explanation),
    )
    return replace(checks, verdict=verdict(checks, explanation), limits=limits(explanation))


def limits(explanation: Explanation) -> dict[str, float]:
    """Return what the verdict on a map of this method and kind of network follows from."""
    alike = ALIKE[explanation.method][explanation.prediction.lesion is None]
    return {"like_random": alike, "stable": alike, "more_than_elsewhere": MORE_THAN_ELSEWHERE}


def faithfulness(classifier: Classifier, explanation: Explanation) -> dict[str, Any]:
    """Return the attributes of `Checks` that need the map alone, and no method: `probability` to `road`."""
    pixels, target, heat = explanation.prediction.scan.pixels, explanation.target, explanation.heat
    before = explanation.prediction.probabilities[target]
    # The same share of the scan whatever the method: peaks differ in width, and a larger part hides more.
    region = hottest_region(heat, max(float(np.quantile(heat, 1 - HOTTEST)), 1e-12))
    hidden = [region] if region.any() and not region.all() else []
    hidden += moved(region, PLACES, np.random.default_rng(0)) if hidden else []
    hot, random = _orders(heat)
    # One list, so that the classifier's workers share it.
    scans = [hide(pixels, each) for each in hidden]
    scans += [hide(pixels, _first(order, share, pixels.shape)) for order in (hot, random) for share in STEPS]
    scans += [_inserted(pixels, order, share) for order in (hot, random) for share in STEPS]
    found = []
    for answer in classifier.stream(scans):
        if not isinstance(answer, Prediction):
            raise answer.error
        found.append(answer.probabilities[target])
    regions, curves = found[: len(hidden)], np.reshape(found[len(hidden) :], (4, len(STEPS))).mean(1)
    return {
        "probability": before,
        "drop_here": before - regions[0] if hidden else None,
        "drop_elsewhere": before - float(np.mean(regions[1:])) if regions[1:] else None,
        **dict(zip(("deletion", "deletion_random", "insertion", "insertion_random"), curves.tolist(), strict=True)),
        "road": road(classifier, explanation),
    }


def verdict(checks: Checks, explanation: Explanation) -> str:
    target, limit = explanation.target, limits(explanation)
    if not explanation.heat.any():
        return f"This map is empty: nothing in it speaks for {target}."
    here, elsewhere = checks.drop_here or 0.0, checks.drop_elsewhere or 0.0
    more, ordered = here - elsewhere >= limit["more_than_elsewhere"], checks.road > 0
    points = [f"{-round(100 * drop):+d}".replace("+0", "0") for drop in (here, elsewhere)]
    effect = (
        f"hiding its hottest region changes the probability of {target} by {points[0]} points, "
        f"as much elsewhere by {points[1]}"
    )
    if checks.random_network >= limit["like_random"]:
        said = f"This map would look much the same with a random network: {effect}."
    elif more and ordered:
        said = f"This map belongs to the answer: {effect}."
    elif more or ordered:
        said = f"The tests disagree on whether this map belongs to the answer: {effect}."
    else:
        said = f"This map does not show what the answer rests on: {effect}."
    if min(checks.mirror, checks.noise, checks.zoom) < limit["stable"]:
        said += (
            " It is not stable: the map of a slightly changed scan is no more like it than another patient's may be."
        )
    return said


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Return the rank correlation (Spearman) of two maps of one size, on a coarse grid; 0 where one is flat."""
    small = [cv2.resize(each, (_COMPARED, _COMPARED), interpolation=cv2.INTER_AREA).ravel() for each in (one, other)]
    return float(spearmanr(*small).statistic) if all(np.ptp(each) > 0 for each in small) else 0.0


def _orders(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of all tiles, hottest first, and at random."""
    tiles = cv2.resize(heat, (_TILES, _TILES), interpolation=cv2.INTER_AREA)
    random = np.random.default_rng(0).permutation(tiles.size).reshape(tiles.shape)
    return np.argsort(np.argsort(-tiles, axis=None, kind="stable")).reshape(tiles.shape), random


def _first(order: np.ndarray, share: float, shape: tuple[int, ...]) -> np.ndarray:
    """bool `[H, W]`: that share of the tiles, in their order."""
    tiles = (order < share * order.size).astype(np.uint8)
    return cv2.resize(tiles, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > 0


def _inserted(pixels: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
    blurred = cv2.blur(pixels, (max(3, pixels.shape[1] // 4), max(3, pixels.shape[0] // 4)))
    shown = _first(order, share, pixels.shape)
    blurred[shown] = pixels[shown]
    return blurred


def road(classifier: Classifier, explanation: Explanation) -> float:
    """Return pytorch-grad-cam's ROAD: what is removed is imputed on a small grid, and laid into the scan as it is."""
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    prediction, side = explanation.prediction, (_ROAD_SIDE, _ROAD_SIDE)
    pixels = prediction.scan.pixels
    grey = pixels if pixels.ndim == 3 else pixels[..., None]
    small = cv2.resize(grey, side, interpolation=cv2.INTER_AREA).reshape(*side, -1).astype(np.float32) / 255
    batch = torch.from_numpy(small).permute(2, 0, 1)[None]
    # Signed: the library's thresholds would take nothing off a map that is 0 in most places, and call it good.
    cam = cv2.resize(explanation.map, side, interpolation=cv2.INTER_AREA)
    number = list(prediction.probabilities).index(explanation.target)
    known = torch.tensor(list(prediction.probabilities.values()))[None]

    def answer(changed: torch.Tensor) -> torch.Tensor:
        removed = (changed != batch)[0].any(0).numpy().astype(np.uint8)
        if not removed.any():
            return known
        filled = np.clip(changed[0].permute(1, 2, 0).numpy() * 255, 0, 255)
        size = (pixels.shape[1], pixels.shape[0])
        where = cv2.resize(removed, size, interpolation=cv2.INTER_NEAREST) > 0
        scan = pixels.copy()
        scan[where] = cv2.resize(filled, size).reshape(pixels.shape)[where]
        return torch.tensor(list(classifier.predict(scan).probabilities.values()))[None]

    with torch.random.fork_rng(devices=[]):  # the imputer adds a little noise
        torch.manual_seed(0)
        metric = ROADCombined(list(ROAD_PERCENTILES))
        return float(metric(batch, cam[None], [ClassifierOutputTarget(number)], answer)[0])


def _stability(classifier: Classifier, explanation: Explanation) -> dict[str, Any]:
    pixels = explanation.prediction.scan.pixels
    noise = np.random.default_rng(0).normal(0, _NOISE, pixels.shape)
    height, width = pixels.shape[:2]
    zoom = cv2.getRotationMatrix2D((width / 2, height / 2), 0, _ZOOM)
    changed = {
        "mirror": np.ascontiguousarray(pixels[:, ::-1]),
        "noise": np.clip(pixels + noise, 0, 255).astype(np.uint8),
        "zoom": cv2.warpAffine(pixels, zoom, (width, height), borderMode=cv2.BORDER_REPLICATE),
    }
    maps = {key: explain(classifier, scan, explanation.target, explanation.method).map for key, scan in changed.items()}
    maps["mirror"] = np.ascontiguousarray(maps["mirror"][:, ::-1])
    return {key: likeness(explanation.map, found) for key, found in maps.items()}


def _sanity(classifier: Classifier, explanation: Explanation) -> dict[str, Any]:
    network = deepcopy(classifier.checkpoint.network)
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, weights in zip(("random_head", "random_network"), _from_the_top(network), strict=True):
        with torch.no_grad():
            for weight in weights:
                weight.normal_(float(weight.mean()), float(weight.std()), generator=generator)
        with one_core():
            prediction = _read_by(network, explanation.prediction)
        other = explain_network(network, prediction, explanation.target, explanation.method)
        found[name] = likeness(explanation.map, other.map)
    return found


def _from_the_top(network: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Yield the weights of the heads, then those of the backbones; norms keep theirs, so that numbers stay finite."""
    heads = ("head", "classifier", "fc", "fine", "coarse", "smooth", "lateral")
    weights = [(name, weight) for name, weight in network.named_parameters() if weight.ndim > 1]
    top = [any(part.startswith(heads) for part in name.split(".")) and "conv_head" not in name for name, _ in weights]
    yield [weight for (_, weight), is_top in zip(weights, top, strict=True) if is_top]
    yield [weight for (_, weight), is_top in zip(weights, top, strict=True) if not is_top]


def _read_by(network: nn.Module, prediction: Prediction) -> Prediction:
    """The same answer with the maps of another network, of the same crop."""
    preprocess, pixels, reading = prediction.preprocess, prediction.scan.pixels, prediction.reading
    first = run_network(network, preprocess, preprocess.plane(pixels)[None])
    second = reading.second
    if second is not None:
        again = run_network(network, preprocess, preprocess.plane(cut(pixels, second.box))[None], enlarged=True)
        assert again.lesion is not None  # a network with a second stage has the lesion head
        second = Enlarged(second.box, again.maps[0], again.lesion[0])
    return replace(prediction, reading=replace(reading, maps=first.maps[0], second=second))


def _lesion_share(explanation: Explanation) -> float | None:
    lesion, heat = explanation.prediction.lesion, explanation.heat
    if lesion is None or not heat.any():
        return None
    inside = lesion >= explanation.prediction.outline_level
    return float(heat[inside].sum() / heat.sum()) if inside.any() else None
