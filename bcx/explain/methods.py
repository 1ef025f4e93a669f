"""Where did the network look? The exact class maps of bcx, and the methods that everybody uses, behind one function.

The methods of pytorch-grad-cam and Captum explain a function of a square image: the logit of a class, before
temperature. A plain network is one; the lesion ensemble is several (`parts`). Each gets a map, stretched to 0..1; they
are laid where their input lies in the scan, the crop's fading in from its edge, and added up by their shares.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

from bcx.errors import MissingExtra, check_name
from bcx.imaging.crop import cut, paste
from bcx.inference.classifier import Classifier
from bcx.inference.prediction import FADE, Prediction
from bcx.inference.sources import Source
from bcx.networks.dense import DenseNetwork
from bcx.networks.ensemble import LesionEnsemble
from bcx.networks.lesion import LesionNetwork, account

EXACT = "exact"


class Method(NamedTuple):
    title: str
    paper: str
    kind: str = ""  # its class in pytorch-grad-cam, or in Captum; "" for the exact maps
    slow: bool = False  # it runs the network so often that a page cannot wait
    by_class: bool = True  # the map depends on the class
    by_pixel: bool = False  # it asks the input's own pixels, with Captum, and no layer


#: Every method, the quick ones first; beside the exact maps, the one that the study of explanations advises.
METHODS = {
    EXACT: Method("Exact class map", "Zhou et al. 2016, arXiv:1512.04150"),
    "hirescam": Method("HiResCAM", "Draelos and Carin 2020, arXiv:2011.08891", "HiResCAM"),
    "grad-cam": Method("Grad-CAM", "Selvaraju et al. 2017, arXiv:1610.02391", "GradCAM"),
    "grad-cam++": Method("Grad-CAM++", "Chattopadhay et al. 2018, arXiv:1710.11063", "GradCAMPlusPlus"),
    "xgrad-cam": Method("XGrad-CAM", "Fu et al. 2020, arXiv:2008.02312", "XGradCAM"),
    "layercam": Method("LayerCAM", "Jiang et al. 2021, doi:10.1109/TIP.2021.3089943", "LayerCAM"),
    "eigen-cam": Method("Eigen-CAM", "Muhammad and Yeasin 2020, arXiv:2008.00299", "EigenCAM", by_class=False),
    "eigengrad-cam": Method("EigenGrad-CAM", "Gildenblat 2021, pytorch-grad-cam", "EigenGradCAM"),
    "ablation-cam": Method(
        "Ablation-CAM", "Desai and Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360", "AblationCAM", True
    ),
    "score-cam": Method("Score-CAM", "Wang et al. 2020, arXiv:1910.01279", "ScoreCAM", slow=True),
    "integrated-gradients": Method(
        "Integrated gradients", "Sundararajan et al. 2017, arXiv:1703.01365", "IntegratedGradients", True, by_pixel=True
    ),
    "smoothgrad": Method("SmoothGrad", "Smilkov et al. 2017, arXiv:1706.03825", "Saliency", True, by_pixel=True),
    "occlusion": Method("Occlusion", "Zeiler and Fergus 2014, arXiv:1311.2901", "Occlusion", True, by_pixel=True),
}


def quick_methods() -> list[str]:
    """Return the methods that a page can wait for."""
    return [name for name, method in METHODS.items() if not method.slow]


@dataclass(frozen=True)
class Explanation:
    """One map."""

    method: str
    target: str
    map: np.ndarray = field(repr=False)  # float32 `[H, W]` at the scan's size
    unit: str  # "logit" (signed: for and against the class), or "0 to 1" (of what the method finds, nothing against)
    explains: str  # which function of the image, through which layers, in words
    seconds: float  # that the map took, the answer itself not counted
    paper: str
    prediction: Prediction = field(repr=False)

    @property
    def heat(self) -> np.ndarray:
        """float32 `[H, W]`, not negative: what speaks for the class."""
        return np.maximum(self.map, 0)

    def to_dict(self) -> dict[str, Any]:
        said = {key: getattr(self, key) for key in ("method", "target", "unit", "explains", "paper")}
        return {**said, "title": METHODS[self.method].title, "seconds": round(self.seconds, 3)}


def explain(
    classifier: Classifier, scan: Source | Prediction, target: str | None = None, method: str = EXACT
) -> Explanation:
    """Explain one answer.

    Args:
        scan: whatever `Classifier.predict` takes, or the classifier's own `Prediction`, which is then not made again.
        target: the class; None: the one that is answered.

    Raises:
        ConfigError: no such class or method.
        MissingExtra: the method's library is not installed.
        BcxError: the scan cannot be read.
    """
    check_method(method)
    prediction = scan if isinstance(scan, Prediction) else classifier.predict(scan)
    target = prediction.label if target is None else target
    check_name(target, classifier.classes, "class")
    return explain_network(classifier.checkpoint.network, prediction, target, method)


def explain_network(network: nn.Module, prediction: Prediction, target: str, method: str) -> Explanation:
    """As `explain`, of another network of the same kind on the same images, crop included."""
    if method != EXACT:  # before the clock runs: it takes seconds, once
        import_module("captum.attr" if METHODS[method].by_pixel else "pytorch_grad_cam")
    started, unit, explains = time.perf_counter(), "0 to 1", _explains(network, target, METHODS[method])
    if method == EXACT:
        plane, unit = prediction.class_map(target), "logit"
    else:
        plane = _library_map(network, prediction, list(prediction.probabilities).index(target), METHODS[method])
    seconds = time.perf_counter() - started
    return Explanation(method, target, plane, unit, explains, seconds, METHODS[method].paper, prediction)


def check_method(name: str) -> None:
    """Raise `ConfigError` where there is no such method, `MissingExtra` where its library is not installed."""
    check_name(name, METHODS, "method")
    if METHODS[name].by_pixel and find_spec("captum") is None:
        raise MissingExtra(
            f"The method '{name}' needs the package 'captum', which is not installed.",
            expected="the extra 'captum'",
            remedy='Install it with: pip install "bcx[captum]", or use another method.',
        )


class Logits(nn.Module):
    """A network as pytorch-grad-cam takes it: from a batch `[B, 3, S, S]`, normalised, to class logits `[B, C]`.

    `layers` are what is explained through: the maps that the head reads.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # A copy, so that hooks do not meet those of other threads.
        self.network = deepcopy(network).eval().requires_grad_(False)
        self.last = nn.Identity()  # timm's networks end in all kinds of modules; this one passes the last map on
        body: Any = self.network.backbone if isinstance(network, LesionNetwork | DenseNetwork) else self.network
        features, intermediates = body.forward_features, body.forward_intermediates

        def once(batch: torch.Tensor) -> torch.Tensor:
            # Ablation-CAM repeats one image: what lies before the layer is the same for all.
            return batch[:1] if torch.equal(batch, batch[:1].expand_as(batch)) else batch

        def tap(last: torch.Tensor, count: int) -> torch.Tensor:
            # Gradients begin here: no weight needs one, and what lies before is not asked for.
            return self.last(_repeated(last, count).requires_grad_())

        def tapped(batch: torch.Tensor, **settings: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
            last, stages = intermediates(once(batch), **settings)
            return tap(last, len(batch)), [_repeated(stage, len(batch)) for stage in stages]

        body.forward_features = lambda batch: tap(features(once(batch)), len(batch))
        body.forward_intermediates = tapped
        self.layers = [self.last, *([self.network.smooth3] if isinstance(network, LesionNetwork) else [])]

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        out = self.network(batch)
        if isinstance(self.network, LesionNetwork):
            return account(out, absent=self.network.absent, positive=self.network.positive)[0]
        return out


def _repeated(features: torch.Tensor, count: int) -> torch.Tensor:
    return features if len(features) == count else features.repeat(count, 1, 1, 1)


class Part(NamedTuple):
    """A network's part in an answer: whether it sees the second stage's crop, mirror images, and its share in it."""

    network: nn.Module
    second: bool
    mirrored: bool
    share: float


def parts(network: nn.Module, number: int) -> list[Part]:
    """Return whose logits of the class with that number make up an answer; the shares add up to 1."""
    if not isinstance(network, LesionEnsemble | LesionNetwork):
        return [Part(network, False, False, 1.0)]
    if isinstance(network, LesionNetwork):
        return [Part(network, second, False, 1 / 2) for second in (False, True)]
    lookers, readers, share = network.lookers, network.readers, network.share
    # The kinds of lesion have two shares, which the shipped models set alike.
    whole = share.presence if number == network.first.absent else (share.presence + share.kind) / 2
    whole = whole if readers else 0.0
    found = [
        Part(member, second, place % 2 == 1, (1 - whole) / len(lookers) / 2)
        for place, member in enumerate(lookers)
        for second in (False, True)
    ]
    return found + [Part(member, False, False, whole / len(readers)) for member in readers]


def _library_map(network: nn.Module, prediction: Prediction, number: int, method: Method) -> np.ndarray:
    preprocess, pixels, second = prediction.preprocess, prediction.scan.pixels, prediction.reading.second
    shape = pixels.shape[0], pixels.shape[1]
    whole = np.zeros(shape, np.float32)
    for part in parts(network, number):
        crop = second.box if part.second and second is not None else None
        batch = preprocess.tensor(pixels if crop is None else cut(pixels, crop))[None]
        batch, adapter = batch.flip(-1) if part.mirrored else batch, Logits(part.network)
        if method.by_pixel:
            found = brightest(run_captum(method.kind, adapter, batch, number))
        else:
            found = run_library(method.kind, adapter, adapter.layers, batch, number)
        found = found[None, :, ::-1] if part.mirrored else found[None]
        found = preprocess.enlarge(found, shape) if crop is None else paste(found, crop, shape, FADE)
        whole += part.share * found[0]
    return whole


def run_library(kind: str, network: nn.Module, layers: list[nn.Module], batch: torch.Tensor, number: int) -> np.ndarray:
    """Run a class of pytorch-grad-cam on one image and return its map, float32 `[S, S]`, 0..1."""
    import pytorch_grad_cam
    from pytorch_grad_cam import ablation_cam, score_cam

    for module in (ablation_cam, score_cam):  # progress on standard error belongs to whoever asked
        module.tqdm = SimpleNamespace(tqdm=iter)
    # The default ablation layer is one object for all calls.
    own = {"ablation_layer": pytorch_grad_cam.AblationLayer()} if kind == "AblationCAM" else {}
    method = getattr(pytorch_grad_cam, kind)(model=network, target_layers=layers, **own)
    hooks = method.activations_and_grads

    def target(logits: torch.Tensor) -> torch.Tensor:
        if not method.uses_gradients:  # it asks for each channel, and would keep every pass's maps
            hooks.activations.clear()
        return logits[number]

    try:
        with torch.enable_grad(), one_core():
            return method(input_tensor=batch, targets=[target])[0]
    finally:
        hooks.release()


def run_captum(kind: str, network: nn.Module, batch: torch.Tensor, number: int) -> np.ndarray:
    """Run a class of Captum on one image and return its attributions, summed over channels, float32 `[S, S]`."""
    from captum import attr

    method = getattr(attr, kind)(network)
    settings: dict[str, Any] = {}
    if kind == "IntegratedGradients":
        settings = {"baselines": float(batch.min())}
    elif kind == "Saliency":
        method, spread = attr.NoiseTunnel(method), 0.15 * float(batch.max() - batch.min())
        settings = {"nt_type": "smoothgrad", "nt_samples": 20, "stdevs": spread}
    else:
        side = batch.shape[-1] // 7
        windows = {"sliding_window_shapes": (3, side, side), "strides": (3, side // 2, side // 2)}
        settings = {**windows, "baselines": float(batch.mean()), "perturbations_per_eval": 8}
    with torch.enable_grad(), one_core(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = method.attribute(batch, target=number, **settings)
    return found.detach()[0].sum(0).float().numpy()


def brightest(attributions: np.ndarray) -> np.ndarray:
    """Return what speaks for the class, 0..1, float32; single pixels stand out, so the largest 2 % are all 1."""
    heat = np.maximum(attributions, 0)
    return np.minimum(heat / max(float(np.quantile(heat, 0.98)), 1e-12), 1).astype(np.float32)


@contextmanager
def one_core() -> Iterator[None]:
    """Let this thread compute without helpers: on a busy machine, cores that wait for each other lose."""
    torch.get_num_threads()  # sets a new thread up, which would undo the limit later
    with threadpool_limits(1):
        yield


def _explains(network: nn.Module, target: str, method: Method) -> str:
    lesion = isinstance(network, LesionEnsemble | LesionNetwork)
    if not method.kind:
        said = f"What each place adds to the logit of {target}"
        if not lesion:
            return f"{said}: the map's mean plus the head's bias is the logit."
        return f"{said}, in both stages, the crop held fixed: the map's mean is the logit."
    what = f"The logit of {target}" if method.by_class else "No class: the strongest pattern in the features"
    pixels = ", by the input's own pixels" if method.by_pixel else ""
    if not lesion:
        return f"{what}{pixels or ', through the last feature map'}."
    lookers, readers = ([network], []) if isinstance(network, LesionNetwork) else (network.lookers, network.readers)
    through = (
        "the two maps that the lesion head reads (the pyramid's, at 1/8 of the input, and the backbone's last, at 1/32)"
    )
    said = (
        f"{what}, of {_networks(lookers)} in both stages, the crop held fixed{'' if pixels else ', through ' + through}"
    )
    if readers:
        said += f", and of {_networks(readers)} in the first alone{'' if pixels else ', through the last map'}"
    return (
        f"{said}{pixels}. Each network's map is stretched to 0..1, and they are added up by their shares in the answer."
    )


def _networks(them: Sequence[nn.Module]) -> str:
    return "one network" if len(them) == 1 else f"{len(them)} networks"
