"""Export a checkpoint's network as one ONNX graph: from images, uint8, to logits, all maps, stage means and lesion map.

Batch norms are folded. The number of scans is free, their size is the checkpoint's.
"""

import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import get_same_padding
from torch import nn

from bcx.checkpoints.backends import ONNX_FILE, SECOND, open_session, run_session, stamp
from bcx.checkpoints.checkpoint import Checkpoint
from bcx.errors import CheckpointError, from_extra, loading
from bcx.files import whole
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import fold_norms, forward_maps
from bcx.networks.ensemble import LesionEnsemble
from bcx.networks.run import Outputs, run_network

PROBABILITY_TOLERANCE, MAP_TOLERANCE = 1e-4, 1e-3  # from torch's; of maps as a share of their largest value
_OPSET = 17  # the newest that torch's tracing exporter knows in all releases that bcx allows


def export_onnx(checkpoint: Checkpoint) -> Path:
    """Write `model.onnx` into a checkpoint's folder, once its answers agree with torch's; else `CheckpointError`.

    `MissingExtra`: the packages onnx and onnxruntime are not both installed.
    """
    with from_extra("train", "Exporting needs the package 'onnx', which is not installed."):
        import onnx
    file = checkpoint.folder / ONNX_FILE
    with whole(file) as scratch:
        expected, remedy = "a network of operations that ONNX has", "Answer through torch; nothing else is lost."
        found = f"The network of '{checkpoint.name}' cannot be written as an ONNX graph"
        with loading(found, expected, passing=(OSError,), remedy=remedy):
            _trace(checkpoint, scratch)
        model = onnx.load(scratch)
        onnx.helper.set_model_props(model, stamp(checkpoint))
        onnx.save(model, scratch)
        _compare(checkpoint, scratch)
    return file


class _Graph(nn.Module):
    def __init__(self, network: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.network = network
        self.scale = torch.tensor([1 / (255 * s) for s in preprocess.std])[:, None, None]
        self.shift = torch.tensor([-m / s for m, s in zip(preprocess.mean, preprocess.std, strict=True)])[:, None, None]

    def forward(self, planes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        stack = planes if planes.ndim == 4 else planes[..., None]
        # As `Preprocess.normalise`, but plane by plane: convolutions of ONNX Runtime want no channels last.
        batch = stack.permute(0, 3, 1, 2).float() * self.scale + self.shift
        parts = tuple(part for part in forward_maps(self.network, batch) if part is not None)
        if not (isinstance(self.network, LesionEnsemble) and self.network.readers):
            return parts
        second = forward_maps(self.network, batch, enlarged=True)
        return *parts, second.logits, second.maps  # the exporter joins what both stages compute alike


def _trace(checkpoint: Checkpoint, file: Path) -> None:
    planes = torch.from_numpy(_noise(checkpoint.preprocess, 2))
    network = deepcopy(fold_norms(checkpoint.network))
    _fix_pads(network, checkpoint.preprocess.normalise(planes))
    graph = _Graph(network, checkpoint.preprocess).eval()
    with torch.inference_mode():
        names = [*Outputs._fields, f"{SECOND}logits", f"{SECOND}maps"][: len(graph(planes))]
    with warnings.catch_warnings():
        # The tracer warns of every size that becomes a constant, as all but the batch's should. The other exporter
        # needs two packages more and some twenty times as long, for the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (planes,),
            str(file),
            dynamo=False,
            opset_version=_OPSET,
            input_names=["planes"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ["planes", *names]},
        )


def _fix_pads(network: nn.Module, batch: torch.Tensor) -> None:
    """Give convolutions that pad as TensorFlow does, by the size of what comes in, the pads of this size as numbers."""
    shapes: dict[nn.Module, torch.Size] = {}

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        shapes[module] = inputs[0].shape

    same = [module for module in network.modules() if isinstance(module, Conv2dSame)]
    hooks = [module.register_forward_pre_hook(note) for module in same]
    with torch.inference_mode():
        forward_maps(network, batch)
    for hook in hooks:
        hook.remove()
    for name, module in list(network.named_modules()):
        if module in shapes:
            network.set_submodule(name, _padded(module, shapes[module]))


def _padded(same: Conv2dSame, shape: torch.Size) -> nn.Sequential:
    """The convolution behind a padding, which ONNX Runtime makes one node again when it loads the graph."""
    each = zip(shape[2:], same.kernel_size, same.stride, same.dilation, strict=True)
    height, width = (get_same_padding(*numbers) for numbers in each)
    plain = nn.Conv2d(same.in_channels, same.out_channels, same.kernel_size, same.stride, 0, same.dilation, same.groups)
    plain.weight, plain.bias = same.weight, same.bias
    return nn.Sequential(nn.ZeroPad2d((width // 2, width - width // 2, height // 2, height - height // 2)), plain)


def _compare(checkpoint: Checkpoint, file: Path) -> None:
    session = open_session(checkpoint, file, threads=1)
    for count, enlarged in ((1, False), (3, False), (3, True)):  # another number than was traced
        planes = _noise(checkpoint.preprocess, count)
        found = run_session(session, planes, enlarged=enlarged)
        right = run_network(checkpoint.network, checkpoint.preprocess, planes, enlarged=enlarged)
        apart = differences(found, right, checkpoint.temperature)
        if apart["probabilities"] > PROBABILITY_TOLERANCE or max(apart.values()) > MAP_TOLERANCE:
            raise CheckpointError(
                f"The graph of '{checkpoint.name}' answers differently from torch: {apart}.",
                expected=f"at most {PROBABILITY_TOLERANCE} in probabilities, {MAP_TOLERANCE} in maps",
                remedy="Answer through torch, and report this with the versions that bcx info prints.",
            )


def differences(found: Outputs, right: Outputs, temperature: float) -> dict[str, float]:
    """Return the largest difference in probabilities, and in each other output as a share of its largest value."""
    one, other = (torch.softmax(torch.from_numpy(out.logits / temperature), 1) for out in (found, right))
    apart = {"probabilities": float((one - other).abs().max())}
    for name in ("maps", "stages", "lesion"):
        ours, theirs = getattr(found, name), getattr(right, name)
        if ours is not None or theirs is not None:
            apart[name] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    return apart


def _noise(preprocess: Preprocess, count: int) -> np.ndarray:
    side = preprocess.size
    shape = (count, side, side) if preprocess.grey else (count, side, side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
