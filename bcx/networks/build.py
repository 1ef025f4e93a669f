"""Networks: build one from timm, and run it so that every class's map comes with the logits.

With the *linear* head (average pooling and one linear layer) the Grad-CAM weights are the head's own (Selvaraju et al.
2017, section 3; Zhou et al. 2016), and each map is an exact account of its logit. Other heads: see their modules.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bcx.errors import CheckpointError, ConfigError, loading
from bcx.networks.dense import DenseNetwork, account_dense
from bcx.networks.ensemble import LesionEnsemble
from bcx.networks.lesion import LesionNetwork, account
from bcx.networks.tiny_cnn import TinyCnn
from bcx.tasks import Task

#: Families whose layers between the last map and the output are left out: what is there becomes the linear head.
_PLAIN = ("vgg", "mobilenetv3_")

Values = TypeVar("Values", torch.Tensor, np.ndarray)
STAGES = 4  # so many of the last describe an image's texture (for MobileNetV2: at 1/4, 1/8, 1/16 and 1/32 of its size)


class ForwardOut(NamedTuple, Generic[Values]):
    """What one forward pass yields, float32: tensors or arrays.

    Mean of a map over the grid = logit (lesion head), + bias = logit (linear head); dense layers: see `dense.py`.
    """

    logits: Values  # `[B, C]`, before temperature
    maps: Values  # `[B, C, h, w]` on the network's grid, in logit units
    stages: Values  # `[B, K]`, the mean of every channel at the end of each of the last `STAGES` stages
    lesion: Values | None  # `[B, h, w]`, 0..1, how surely a place belongs to a lesion; None without a lesion head


def build_network(
    arch: str, classes: int, *, drop: float = 0.0, init: str = "scratch", size: int | None = None
) -> nn.Module:
    """Build a timm network with a linear head over average-pooled features, or `tiny_cnn`.

    Args:
        arch: timm's name ("mobilenetv2_100", "resnet50").
        drop: dropout on the pooled features while training.
        init: "scratch" (random), "timm" (timm's pretrained weights, fetched from the Hub), or the path of a
            `.safetensors` file in timm's names, whose classifier is left out. Unless from scratch, the head starts at
            zero: every class is equally likely.
        size: side of the input, pixels, for a network that is built for one size (`tiny_cnn`); None: its own.

    `ConfigError`: an unknown architecture, or one with another head. `CheckpointError`: no weights, or others.
    """
    network = _timm_network(arch, classes, drop, init, size)
    require_linear_head(network, arch)
    if init != "scratch":
        for parameter in network.get_classifier().parameters():
            nn.init.zeros_(parameter)
    return network


def build_lesion_network(arch: str, task: Task, *, drop: float = 0.0, init: str = "scratch") -> LesionNetwork:
    """Build a timm backbone with the lesion head, for a task of three classes, one absent; see `build_network`."""
    if task.absent is None or len(task.classes) != 3:
        raise ConfigError(
            f"The task '{task.name}' has no class that means 'nothing there', and two others.",
            expected="such as normal, benign and malignant",
            remedy="Use head: linear for this task.",
        )
    absent, positive = task.classes.index(task.absent), task.classes.index(task.positive)
    return LesionNetwork(_timm_network(arch, 0, 0.0, init), absent=absent, positive=positive, drop=drop)


def build_dense_network(arch: str, classes: int, *, init: str = "scratch", **head: Any) -> DenseNetwork:
    """Build a timm backbone with the dense head, which starts at random; see `build_network` and `DenseNetwork`."""
    if arch == "tiny_cnn":
        raise ConfigError(
            "tiny_cnn has dense layers of its own.", expected="another architecture, or no 'dense'", remedy="Remove it."
        )
    return DenseNetwork(_timm_network(arch, 0, 0.0, init), classes, **head)


def gets_plain_head(arch: str) -> bool:
    """Whether `put_plain_head` changes an architecture."""
    return arch.removeprefix("tf_").startswith(_PLAIN)


def put_plain_head(network: nn.Module, arch: str) -> nn.Module:
    """Of some families, put average pooling and one linear layer in place of what follows the last map; return it."""
    if gets_plain_head(arch):
        classes = network.num_classes
        network.prune_intermediate_layers(1)
        network.reset_classifier(classes, "avg")
    return network


def _timm_network(arch: str, classes: int, drop: float, init: str, size: int | None = None) -> nn.Module:
    if arch not in timm.list_models():
        near = ", ".join(timm.list_models(f"*{arch.split('_')[0]}*")[:5]) or "none similar"
        raise ConfigError(
            f"timm knows no architecture called '{arch}'.",
            expected=f"a name from timm.list_models() (similar: {near})",
            remedy="Use 'mobilenetv2_100' or 'resnet50' if in doubt.",
        )
    from_file = init not in ("scratch", "timm")
    options: dict[str, Any] = {"num_classes": classes, "drop_rate": drop}
    if from_file and arch.startswith("mobilenetv2"):
        options["pad_type"] = "same"  # the TF-slim weights were trained with TensorFlow's padding
    published = timm.get_pretrained_cfg(arch)
    if init == "timm" and not (published and published.has_weights):
        raise CheckpointError(
            f"timm has no trained weights of '{arch}'.",
            expected="an architecture with published weights, or other starting weights",
            remedy="Start from a file with --init FILE, or from random weights with --init scratch.",
        )
    if size is not None and published and published.fixed_input_size:
        options["img_size"] = size
    try:
        network = timm.create_model(arch, pretrained=init == "timm", **options)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"timm's weights for '{arch}' could not be fetched ({type(error).__name__}).",
            expected="a connection to the Hugging Face Hub, or a file already in its cache",
            remedy="Connect, or start from a file with --init FILE, or from random weights with --init scratch.",
        ) from error
    if from_file:
        _load_backbone(network, Path(init))
    return put_plain_head(network, arch)


def require_linear_head(network: nn.Module, arch: str) -> None:
    """Raise `ConfigError` for a network whose class maps would not be exact; those of `TinyCnn` are."""
    head = network.get_classifier()
    # Elsewhere a pool inside "head" may be followed by a norm; here `put_plain_head` has just put it there.
    pool = getattr(network.head if arch.startswith("vgg") else network, "global_pool", None)
    linear = isinstance(head, nn.Linear) and head.in_features == network.num_features
    if not isinstance(network, TinyCnn) and (not linear or getattr(pool, "pool_type", None) != "avg"):
        raise ConfigError(
            f"The head of '{arch}' is not average pooling followed by one linear layer.",
            expected="an architecture whose class maps are exact, such as mobilenetv2_100, resnet50 or efficientnet_b0",
            remedy="Choose one of these.",
        )


def _load_backbone(network: nn.Module, file: Path) -> None:
    """Load everything but the classifier, strictly."""
    expected, remedy = "a .safetensors file in timm's names", "Check the path given with --init."
    with loading(f"The starting weights '{file.name}' could not be read", expected, remedy=remedy):
        tensors = load_file(file)
    head = network.pretrained_cfg["classifier"]
    tensors = {name: value.float() for name, value in tensors.items() if not name.startswith(f"{head}.")}
    own = {name: value.shape for name, value in network.state_dict().items() if not name.startswith(f"{head}.")}
    missing, extra = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    both = own.keys() & tensors.keys()
    odd = {name for name in both if tensors[name].shape != own[name] or not torch.isfinite(tensors[name]).all()}
    if missing or extra or odd:
        raise CheckpointError(
            f"'{file.name}' lacks {len(missing)} tensors of the network and holds {len(extra)} others; {len(odd)} have "
            f"another shape or are not finite (first: {sorted(missing | extra | odd)[0]}).",
            expected="weights of the same architecture",
            remedy="Name the architecture that belongs to the file with --arch.",
        )
    network.load_state_dict(tensors, strict=False)


def forward_maps(network: nn.Module, batch: torch.Tensor, *, enlarged: bool = False) -> ForwardOut[torch.Tensor]:
    """Run the network once; return logits, all class maps, stage means and, with the lesion head, the lesion map.

    Args:
        network: from one of the builders here, or an ensemble, in evaluation mode.
        batch: float32 `[B, 3, S, S]`, normalised by `Preprocess`.
        enlarged: whether this is the second stage, in which members of an ensemble that read the whole image do not
            answer; in the first stage they count twice.
    """
    if isinstance(network, LesionEnsemble):
        return _join(network, batch, enlarged)
    if isinstance(network, LesionNetwork):
        read = network.read(batch)
        answer = account(read, absent=network.absent, positive=network.positive)
        return ForwardOut(*answer, read.stages, torch.sigmoid(read.lesion))
    backbone = network.backbone if isinstance(network, DenseNetwork) else network
    last, stages = backbone.forward_intermediates(batch, indices=STAGES)
    described = torch.cat([stage.mean((2, 3)) for stage in stages], 1)
    if isinstance(network, DenseNetwork | TinyCnn):
        layers = network.head if isinstance(network, DenseNetwork) else nn.Sequential(*network.dense, network.head)
        return ForwardOut(*account_dense(layers, last), described, None)
    head = network.get_classifier()
    maps = nn.functional.conv2d(last, head.weight[:, :, None, None])
    return ForwardOut(maps.mean((2, 3)) + head.bias, maps, described, None)


def _join(network: LesionEnsemble, batch: torch.Tensor, enlarged: bool) -> ForwardOut[torch.Tensor]:
    outs = [(_mirrored if number % 2 else forward_maps)(m, batch) for number, m in enumerate(network.lookers)]
    logits, maps = _mean([out.logits for out in outs]), _mean([out.maps for out in outs])
    lesion = _mean([out.lesion for out in outs if out.lesion is not None])
    if network.readers:
        share = network.share
        logits, maps = (network.weigh(part, 1 - share.presence, 1 - share.kind) for part in (logits, maps))
    if network.readers and not enlarged:
        reads = [forward_maps(member, batch) for member in network.readers]
        # With the bias spread over the grid, these maps too account for their logits without a rest.
        flat = [out.maps + (out.logits - out.maps.mean((2, 3)))[:, :, None, None] for out in reads]
        logits = logits + network.weigh(_mean([out.logits for out in reads]), 2 * share.presence, 2 * share.kind)
        # Every place of the coarse grid becomes a square of equal places, so that the mean stays what it was.
        fine = nn.functional.interpolate(_mean(flat), size=maps.shape[2:], mode="nearest")
        maps = maps + network.weigh(fine, 2 * share.presence, 2 * share.kind)
    return ForwardOut(logits, maps, outs[0].stages, lesion)


def _mirrored(network: nn.Module, batch: torch.Tensor) -> ForwardOut[torch.Tensor]:
    """What a network answers to the mirror images, its maps turned back."""
    out = forward_maps(network, batch.flip(-1))
    return out._replace(maps=out.maps.flip(-1), lesion=None if out.lesion is None else out.lesion.flip(-1))


def _mean(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(parts)).mean(0)


@torch.no_grad()
def fold_norms(network: nn.Module) -> nn.Module:
    """Return a copy for answering, with every batch norm folded into the convolution before it: same answers, sooner.

    (Jacob et al. 2018, section 3.2.) Where a network uses a convolution's output in another way as well, folding would
    change the answer; so the copy is compared on noise, and where it differs it is left unfolded.
    """
    side = network.size if isinstance(network, DenseNetwork) else 64
    height, width = network.img_size if isinstance(network, TinyCnn) else (side, side)
    probe = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = forward_maps(network, probe)
    folded = deepcopy(network)
    names = {module: name for name, module in folded.named_modules()}
    for convolution, norm in _norms_after_convolutions(folded, probe):
        folded.set_submodule(names[convolution], fuse_conv_bn_eval(convolution, norm))
        folded.set_submodule(names[norm], getattr(norm, "act", nn.Identity()))  # timm's norms carry their activation
    for found, right in zip(forward_maps(folded, probe), expected, strict=True):
        # Rounding is a hundred times smaller than this, a wrong folding far larger.
        if right is not None and not torch.allclose(found, right, rtol=0, atol=1e-4 * float(right.abs().max())):
            return deepcopy(network)
    return folded.requires_grad_(False)


def _norms_after_convolutions(network: nn.Module, probe: torch.Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find them as data flows: each batch norm whose input is the very tensor that a convolution has just returned."""
    last: list[tuple[nn.Conv2d, torch.Tensor]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def after_convolution(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        last[:] = [(module, output)]

    def before_norm(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if last and last[0][1] is inputs[0]:
            pairs.append((last[0][0], module))

    hooks = [m.register_forward_hook(after_convolution) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(before_norm) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    forward_maps(network, probe)
    for hook in hooks:
        hook.remove()
    return pairs
