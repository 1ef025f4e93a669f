"""Checkpoints: folders that hold a network and everything needed to use it honestly.

`config.json` follows timm's schema, so `timm.create_model("local-dir:FOLDER", pretrained=True)` loads the network, or
the backbone of a lesion or dense head, whose own weights stand in `head.safetensors`. (VGG and MobileNetV3, whose last
layers are left out, with `features_only=True`; `tiny_cnn` after `import bcx.networks.tiny_cnn`.)
"""

import copy
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import nn

from bcx.checkpoints.config import DENSE, FORMAT, LESION, LINEAR, PLAIN, TINY, check_config, read_config
from bcx.checkpoints.weights import HEAD_FILE, MEMBERS, WEIGHTS_FILE, load_network, weight_files
from bcx.errors import CheckpointError
from bcx.files import whole
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import gets_plain_head
from bcx.networks.dense import DenseNetwork
from bcx.networks.ensemble import LesionEnsemble
from bcx.networks.lesion import LesionNetwork
from bcx.networks.tiny_cnn import TinyCnn
from bcx.tasks import Task

_PACKAGE = Path(__file__).resolve().parents[1]
_LARGE = 100_000  # numbers in a tensor from which on it is stored as float16


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    name: str  # the folder's, or the Hub id that it was fetched by
    folder: Path
    network: nn.Module  # in evaluation mode, float32
    task: Task
    preprocess: Preprocess
    temperature: float  # divides the logits before the softmax (Guo et al. 2017)
    input_check: dict[str, Any] | None  # see `bcx.trust.input_check`
    decisions: dict[str, Any] | None  # `rule`, or `operating_point` and `refer`, see `bcx.trust.rule.Decider`
    training: dict[str, Any]  # provenance: data, split, recipe, versions
    weights_sha256: str  # of model.safetensors as stored; with a head of its own, of both weight files in a row


def list_checkpoints() -> dict[str, Path]:
    """Return the checkpoints at hand, by name; an earlier place hides a later one of the same name.

    Places, in order: BCX_CHECKPOINTS, ./checkpoints, the checkout's, the installed package's.
    """
    named = [Path(part) for part in os.environ.get("BCX_CHECKPOINTS", "").split(os.pathsep) if part]
    found: dict[str, Path] = {}
    for place in [*named, Path("checkpoints"), _PACKAGE.parent / "checkpoints", _PACKAGE / "_checkpoints"]:
        for file in sorted(place.glob("*/config.json")):
            found.setdefault(file.parent.name, file.parent)
    return found


def find_checkpoint(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a checkpoint given by folder, name or Hub id; `CheckpointError` without one."""
    folder = Path(name)
    if os.path.isfile(folder / "config.json"):  # False also for what can be no path, where pathlib would raise
        return folder
    at_hand = list_checkpoints()
    text = os.fspath(name)
    if text in at_hand:
        return at_hand[text]
    if _is_hub_id(text):
        return _from_hub(text)
    raise CheckpointError(
        f"There is no checkpoint called '{text}'.",
        expected=f"a folder with a config.json, a Hub id such as 'owner/model', or one of: {', '.join(at_hand)}",
        remedy="Check the name, or set BCX_CHECKPOINTS to the folder that holds your checkpoints.",
    )


def _is_hub_id(text: str) -> bool:
    return text.count("/") == 1 and not os.path.exists(text) and not text.startswith((".", "/", "~"))


def _from_hub(repo_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=["*.json", "*.safetensors", "*.onnx", "*.csv", "*.md"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"'{repo_id}' is no folder here and could not be fetched from the Hub ({type(error).__name__}).",
            expected="the id of a public model repository, and a connection",
            remedy="Check the id and the connection, or download the checkpoint and give its folder.",
        ) from error


def sha256_of(*files: Path) -> str:
    """Return the hex SHA-256 of a file, or of several in a row."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: digest)
    return digest.hexdigest()


def load_checkpoint(name: str | os.PathLike[str]) -> Checkpoint:
    """Load a checkpoint by folder, name or Hub id; `CheckpointError` where it is missing, damaged or incompatible."""
    folder = find_checkpoint(name).resolve()
    config = read_config(folder)
    block, network = config.bcx, load_network(folder, config)
    return Checkpoint(
        # The Hub's cache names its folders by commit, which tells a reader nothing.
        name=os.fspath(name) if _is_hub_id(os.fspath(name)) else folder.name,
        folder=folder,
        network=network.float().eval().requires_grad_(False),
        task=config.task,
        preprocess=Preprocess(**block.preprocess.model_dump(exclude={"fit"})),
        temperature=block.temperature,
        input_check=None if block.input_check is None else block.input_check.model_dump(),
        decisions=None if block.decisions is None else block.decisions.model_dump(exclude_unset=True),
        training=block.training,
        weights_sha256=sha256_of(*weight_files(folder, config)),
    )


def _half(network: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with the large tensors in float16.

    Of a trained MobileNetV2, rounding everything changes probabilities by up to .018 (through the depthwise
    convolutions, which are small), rounding the large tensors by less than .0005.
    """
    return {
        name: (value.half() if value.is_floating_point() and value.numel() > _LARGE else value).contiguous().cpu()
        for name, value in network.state_dict().items()
    }


def save_checkpoint(
    folder: Path,
    network: nn.Module,
    *,
    task: Task,
    preprocess: Preprocess,
    temperature: float = 1.0,
    input_check: dict[str, Any] | None = None,
    decisions: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
) -> Path:
    """Write `config.json` and the weights, all at once or not at all; other files in the folder stay.

    The network is one of `bcx.networks.build`, or an ensemble; the other arguments are as in `Checkpoint`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Training leaves weights channels last in memory, which safetensors does not store.
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    backbone, head, own = network, LINEAR, dict[str, Any]()
    if isinstance(network, LesionEnsemble):
        backbone, head, own = network.first.backbone, LESION, {"members": len(network.members)}
        if network.readers:
            reading = [n for n, member in enumerate(network.members) if not isinstance(member, LesionNetwork)]
            own["picture"] = {"members": reading, "share": asdict(network.share)}
    elif isinstance(network, LesionNetwork):
        backbone, head = network.backbone, LESION
    elif isinstance(network, DenseNetwork):
        backbone, head, own = network.backbone, DENSE, {"dense": network.settings}
    elif isinstance(network, TinyCnn):
        head = TINY
    elif gets_plain_head(network.pretrained_cfg["architecture"]):
        head = PLAIN
    block = {
        "format": FORMAT,
        "task": task.stored(),
        "classes": list(task.classes),
        "head": head,
        **own,
        "preprocess": preprocess.to_dict(),
        "temperature": temperature,
        "gate": input_check,
        "decisions": decisions,
        "training": training or {},
    }
    data_config = {
        "input_size": (3, preprocess.size, preprocess.size),
        "mean": preprocess.mean,
        "std": preprocess.std,
        "crop_pct": 1.0,
        "crop_mode": "squash",
        "interpolation": "bilinear",
    }
    scratch = folder / ".writing"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    # What timm records about its own pretrained weights (url, hub id) does not belong to these weights.
    provenance = dict.fromkeys(("url", "hf_hub_id", "tag", "origin_url", "paper_ids"))
    model_config = {"label_names": list(task.classes), "bcx": block, "pretrained_cfg": provenance}
    save_for_hf(backbone, str(scratch), model_config, safe_serialization=True, data_config=data_config)
    save_file(_half(backbone), scratch / WEIGHTS_FILE, metadata={"format": "pt"})  # smaller than timm's copy
    parts = [WEIGHTS_FILE, "config.json"]
    if backbone is not network:
        # Keys without a prefix are the first member's, so that a single network's file reads the same.
        everything = {key.removeprefix(f"{MEMBERS}0."): value for key, value in _half(network).items()}
        others = {key: value for key, value in everything.items() if not key.startswith("backbone.")}
        save_file(others, scratch / HEAD_FILE, metadata={"format": "pt"})
        parts.insert(0, HEAD_FILE)
    for part in parts:
        # safetensors lets nobody but the owner read what it writes; a page may run as somebody else.
        shutil.copymode(scratch / "config.json", scratch / part)
    for part in parts:
        os.replace(scratch / part, folder / part)
    scratch.rmdir()
    return folder


def update_config(folder: Path, **entries: Any) -> None:
    """Change entries of a stored checkpoint's `bcx` block (temperature, input check ...), leaving the weights alone."""
    read_config(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["bcx"].update(entries)
    text = json.dumps(config, indent=2) + "\n"
    check_config(folder, text)
    with whole(file) as partial:
        partial.write_text(text, encoding="utf-8")
