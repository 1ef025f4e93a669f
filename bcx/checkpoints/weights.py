"""From a checked config.json and the files of weights beside it to a network.

Every tensor's name, shape and type is compared with what the files say before anything large is made.
"""

from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from safetensors import safe_open
from torch import nn

from bcx.checkpoints.config import DENSE, LESION, Config
from bcx.errors import loading
from bcx.networks.build import put_plain_head, require_linear_head
from bcx.networks.dense import DenseNetwork
from bcx.networks.ensemble import LesionEnsemble, PictureShare
from bcx.networks.lesion import LesionNetwork

WEIGHTS_FILE, HEAD_FILE = "model.safetensors", "head.safetensors"
MEMBERS = "members."
"""Before the number of a member and its tensor's name, in `HEAD_FILE`; names without it are the first member's."""
_TYPES = ("F16", "BF16", "F32", "F64", "I64")


def weight_files(folder: Path, config: Config) -> list[Path]:
    """Return the files of a checkpoint's weights: what timm loads, and the lesion or dense head's own."""
    return [folder / WEIGHTS_FILE] + [folder / HEAD_FILE] * (config.bcx.head in (LESION, DENSE))


def load_network(folder: Path, config: Config) -> nn.Module:
    """Build a checkpoint's network and read its weights, as float32.

    `CheckpointError`: a file is missing or no safetensors; a tensor is missing, left over, of another shape, or not
    finite; or timm has no such network.
    """
    has = f"{WEIGHTS_FILE}, and with some heads {HEAD_FILE}, as config.json has the network"
    with loading(f"The checkpoint '{folder.name}' is incomplete or damaged", has):
        with torch.device("meta"):
            expected = _build(config).state_dict()
        whole = f"{MEMBERS}0." if config.bcx.members > 1 else ""
        first = f"{whole}backbone." if config.bcx.head in (LESION, DENSE) else ""
        tensors: dict[str, torch.Tensor] = {}
        for file, prefix in zip(weight_files(folder, config), (first, whole), strict=False):
            for name, value in _read(file, prefix, expected):
                if name in tensors:
                    raise ValueError(f"'{name}' comes twice")
                tensors[name] = value
        if missing := sorted(expected.keys() - tensors):
            raise ValueError(f"{len(missing)} of the network's tensors are missing, the first '{missing[0]}'")
        network = _build(config)
        network.load_state_dict(tensors)
        return network


def _read(file: Path, prefix: str, expected: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the file's tensors by their name in the whole network, once all are known to fit."""
    with safe_open(file, framework="pt") as stored:
        names = {key: key if key.startswith(MEMBERS) else prefix + key for key in stored.keys()}  # noqa: SIM118
        for key, name in names.items():
            part = stored.get_slice(key)
            shape, kind = tuple(part.get_shape()), part.get_dtype()
            if name not in expected:
                raise ValueError(f"{file.name} has '{key}', which the network has not")
            if shape != tuple(expected[name].shape) or kind not in _TYPES:
                raise ValueError(f"'{key}' is {kind} {list(shape)}, in the network {list(expected[name].shape)}")
        for key, name in names.items():
            value = stored.get_tensor(key)
            value = value.float() if value.is_floating_point() else value
            if not torch.isfinite(value).all():
                raise ValueError(f"'{key}' of {file.name} holds numbers that are not finite")
            yield name, value


def _build(config: Config) -> nn.Module:
    block = config.bcx
    if block.head == LESION:
        return _build_lesion(config)
    network = _timm_network(config)
    if block.dense is not None:
        return DenseNetwork(network, len(block.classes), size=block.preprocess.size, **block.dense.model_dump())
    require_linear_head(network, config.architecture)
    return network


def _build_lesion(config: Config) -> nn.Module:
    task, picture = config.task, config.bcx.picture
    absent, positive = task.classes.index(str(task.absent)), task.classes.index(task.positive)
    members = [_timm_network(config) for _ in range(config.bcx.members)]
    for number, network in enumerate(members):
        if picture is not None and number in picture.members:
            network.reset_classifier(len(task.classes))
        else:
            members[number] = LesionNetwork(network, absent=absent, positive=positive)
    if len(members) == 1:
        return members[0]
    return LesionEnsemble(members, None if picture is None else PictureShare(**picture.share.model_dump()))


def _timm_network(config: Config) -> nn.Module:
    if not timm.is_model(config.architecture):  # which no address of the Hub and no folder is
        raise ValueError(f"timm knows no architecture called '{config.architecture}'")
    network = timm.create_model(config.architecture, **config.model_args.model_dump(exclude_unset=True))
    return put_plain_head(network, config.architecture)
