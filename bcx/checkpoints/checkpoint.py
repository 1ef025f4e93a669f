"""Checkpoints: folders that hold a network and everything needed to use it honestly.

`config.json` follows timm's schema, so `timm.create_model("local-dir:FOLDER", pretrained=True)`
loads the network (with the lesion or dense head, whose own weights stand in `head.safetensors`, its backbone). VGG and
MobileNetV3, whose own last layers are left out, load with `features_only=True`, `tiny_cnn` after
`import bcx.networks.tiny_cnn`. The `bcx` block holds the task, preprocessing, temperature, gate and provenance.
Weights are safetensors, never pickle.

>>> from bcx.errors import CheckpointError
>>> try:
...     find_checkpoint("no-such-model")
... except CheckpointError as error:
...     print(error.found)
There is no checkpoint called 'no-such-model'.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import nn

from bcx.errors import CheckpointError, ConfigError
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import gets_plain_head, put_plain_head
from bcx.networks.dense import DenseNetwork
from bcx.networks.ensemble import LesionEnsemble, PictureShare
from bcx.networks.lesion import LesionNetwork
from bcx.networks.tiny_cnn import TinyCnn
from bcx.tasks import Task, get_task

FORMAT = 1
HEAD_FILE = "head.safetensors"
_LINEAR, _LESION, _DENSE = "average pooling, linear", "lesion", "dense"  # as named in config.json
_PLAIN, _TINY = "average pooling, linear, in place of the network's own", "dense layers of its own"
_PACKAGE = Path(__file__).resolve().parents[1]
_MEMBERS = "members."  # before the number of a member and its tensor's name, in HEAD_FILE
_LARGE = 100_000  # numbers in a tensor from which on it is stored as float16


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        name: the folder's name, or the Hub id that it was fetched by.
        folder: where it is.
        network: timm network, or one or several with the lesion head, in evaluation mode, float32.
        task, preprocess: what the network answers, and how a scan becomes its input.
        temperature: divides the logits before the softmax (Guo et al. 2017).
        gate: the gate's settings, or None where the checkpoint has none.
        decisions: `operating_point` and `refer` (see bcx.trust.decisions and referral), or None: the label is then the
            most probable class, and nothing is referred.
        training: provenance: data, split, recipe, versions.
        weights_sha256: of model.safetensors as stored; with the lesion head, of both weight files in a row.
    """

    name: str
    folder: Path
    network: nn.Module
    task: Task
    preprocess: Preprocess
    temperature: float
    gate: dict[str, Any] | None
    decisions: dict[str, Any] | None
    training: dict[str, Any]
    weights_sha256: str


def checkpoint_folders() -> list[Path]:
    """Where names are looked up, in order: BCX_CHECKPOINTS, ./checkpoints, the checkout's, the installed package's."""
    places = [Path(part) for part in os.environ.get("BCX_CHECKPOINTS", "").split(os.pathsep) if part]
    places += [Path("checkpoints"), _PACKAGE.parent / "checkpoints", _PACKAGE / "_checkpoints"]
    return places


def list_checkpoints() -> dict[str, Path]:
    """Return the checkpoints at hand, by name; an earlier place hides a later one of the same name."""
    found: dict[str, Path] = {}
    for place in checkpoint_folders():
        if place.is_dir():
            for folder in sorted(place.iterdir()):
                if (folder / "config.json").is_file():
                    found.setdefault(folder.name, folder)
    return found


def find_checkpoint(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a checkpoint given by folder, name or Hub id ("owner/name").

    Raises:
        CheckpointError: nothing found, or the Hub could not be reached.
    """
    folder = Path(name)
    if (folder / "config.json").is_file():
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
    return text.count("/") == 1 and not Path(text).exists() and not text.startswith((".", "/", "~"))


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
    """Return the hex SHA-256 of a file, or of several in a row, read in blocks."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def load_checkpoint(name: str | os.PathLike[str]) -> Checkpoint:
    """Load a checkpoint by folder, name or Hub id.

    Raises:
        CheckpointError: missing, incomplete, or made by an incompatible version.
    """
    folder = find_checkpoint(name).resolve()
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        block = config["bcx"]
        if block["format"] != FORMAT:
            raise CheckpointError(
                f"The checkpoint '{folder.name}' has format {block['format']}.",
                expected=f"format {FORMAT}",
                remedy="Use the version of bcx that made it, or train it again.",
            )
        weights = folder / "model.safetensors"
        task = get_task(block["task"])
        network = _rebuild(config)
        network.load_state_dict(_read_weights(weights))
        files = [weights]
        if block["head"] == _LESION:
            network = _with_lesion_head(network, task, folder / HEAD_FILE, config)
            files.append(folder / HEAD_FILE)
        elif block["head"] == _DENSE:
            size = Preprocess.from_dict(block["preprocess"]).size
            network = DenseNetwork(network, len(task.classes), size=size, **block["dense"])
            own = {f"backbone.{key}": value for key, value in network.backbone.state_dict().items()}
            network.load_state_dict(own | _read_weights(folder / HEAD_FILE))
            files.append(folder / HEAD_FILE)
        elif block["head"] not in (_LINEAR, _PLAIN, _TINY) or network.num_classes != len(task.classes):
            raise ConfigError(
                f"The head is '{block['head']}' with {network.num_classes} outputs.",
                expected=f"'{_LINEAR}' with {len(task.classes)} outputs, '{_DENSE}' or '{_LESION}'",
                remedy="Use the version of bcx that made it, or train it again.",
            )
        return Checkpoint(
            # The Hub's cache names its folders by commit, which tells a reader nothing.
            name=os.fspath(name) if _is_hub_id(os.fspath(name)) else folder.name,
            folder=folder,
            network=network.float().eval().requires_grad_(False),
            task=task,
            preprocess=Preprocess.from_dict(block["preprocess"]),
            temperature=float(block["temperature"]),
            gate=block.get("gate"),
            decisions=block.get("decisions"),
            training=block.get("training", {}),
            weights_sha256=sha256_of(*files),
        )
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError, TypeError, ConfigError) as error:
        raise CheckpointError(
            f"The checkpoint '{folder.name}' is incomplete or damaged ({type(error).__name__}: {error}).",
            expected="config.json with a 'bcx' block, and model.safetensors that fits it",
            remedy="Fetch or train the checkpoint again.",
        ) from error


def _rebuild(config: dict[str, Any]) -> nn.Module:
    """Build the timm network of a checkpoint, with random weights."""
    network = timm.create_model(config["architecture"], **config["model_args"])
    return put_plain_head(network) if gets_plain_head(config["architecture"]) else network


def _read_weights(file: Path) -> dict[str, torch.Tensor]:
    return {key: value.float() if value.is_floating_point() else value for key, value in load_file(file).items()}


def _with_lesion_head(
    backbone: nn.Module, task: Task, file: Path, config: dict[str, Any]
) -> LesionNetwork | LesionEnsemble:
    """Put the head on the backbone; in an ensemble, the further members stand whole in the head's file."""
    members, picture = config["bcx"].get("members", 1), config["bcx"].get("picture")
    if task.absent is None:
        raise ConfigError(
            f"The task '{task.name}' has no absent class.", expected="one that has", remedy="Train again."
        )
    absent, positive = task.classes.index(task.absent), task.classes.index(task.positive)
    parts = {0: {f"backbone.{key}": value for key, value in backbone.state_dict().items()}}
    for key, value in _read_weights(file).items():
        number, own = _member_of(key)
        parts.setdefault(number, {})[own] = value
    if sorted(parts) != list(range(members)):
        raise ConfigError(
            f"{HEAD_FILE} holds {len(parts)} members.", expected=f"the {members} of config.json", remedy="Train again."
        )
    networks: list[nn.Module] = []
    for number, part in sorted(parts.items()):
        if picture and number in picture["members"]:
            whole = _rebuild(config)
            whole.reset_classifier(len(task.classes))
            networks.append(whole)
        else:
            body = backbone if number == 0 else _rebuild(config)
            networks.append(LesionNetwork(body, absent=absent, positive=positive))
        networks[-1].load_state_dict(part)
    if members == 1:
        return cast(LesionNetwork, networks[0])
    return LesionEnsemble(networks, PictureShare(**picture["share"]) if picture else None)


def _member_of(key: str) -> tuple[int, str]:
    """Return whose tensor it is, and its name there: "members.1.fine.bias" is the second's, "fine.bias" the first's."""
    if not key.startswith(_MEMBERS):
        return 0, key
    number, _, own = key.removeprefix(_MEMBERS).partition(".")
    return int(number), own


def _head_of(network: nn.Module) -> str:
    if isinstance(network, TinyCnn):
        return _TINY
    return _PLAIN if gets_plain_head(network.pretrained_cfg["architecture"]) else _LINEAR


def _members_block(network: LesionEnsemble) -> dict[str, Any]:
    block: dict[str, Any] = {"members": len(network.members)}
    if network.readers:
        reading = [n for n, member in enumerate(network.members) if not isinstance(member, LesionNetwork)]
        block["picture"] = {"members": reading, "share": network.share.to_dict()}
    return block


def _half(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict with the large tensors in float16, the others as they are.

    Measured on a trained MobileNetV2: rounding everything changes probabilities by up to .018 (nearly all of it through
    the depthwise convolutions, which are small), rounding the large tensors by less than .0005 at two thirds of the
    bytes of float32.
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
    gate: dict[str, Any] | None = None,
    decisions: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
) -> Path:
    """Write `config.json` and the weights, all at once or not at all; other files in the folder stay.

    Args:
        folder: where to; made when missing.
        network: from `build_network`, `build_dense_network` or `build_lesion_network`, or an ensemble of the latter.
        task, preprocess, temperature, gate, decisions, training: as in `Checkpoint`.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Training leaves weights channels last in memory, which safetensors does not store.
    network = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    first = network.first if isinstance(network, LesionEnsemble) else network
    lesion, dense = isinstance(first, LesionNetwork), isinstance(first, DenseNetwork)
    backbone = first.backbone if lesion or dense else network
    block = {
        "format": FORMAT,
        "task": task.stored(),
        "classes": list(task.classes),
        "head": _LESION if lesion else _DENSE if dense else _head_of(network),
        **({"dense": first.settings()} if dense else {}),
        **(_members_block(network) if isinstance(network, LesionEnsemble) else {}),
        "preprocess": preprocess.to_dict(),
        "temperature": temperature,
        "gate": gate,
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
    save_file(_half(backbone), scratch / "model.safetensors", metadata={"format": "pt"})  # smaller than timm's copy
    parts = ["model.safetensors", "config.json"]
    if lesion or dense:
        # Keys without a prefix are the first member's, so that a single network's file reads the same.
        everything = {key.removeprefix(f"{_MEMBERS}0."): value for key, value in _half(network).items()}
        own = {key: value for key, value in everything.items() if not key.startswith("backbone.")}
        save_file(own, scratch / HEAD_FILE, metadata={"format": "pt"})
        parts.insert(0, HEAD_FILE)
    for part in parts:
        # safetensors lets nobody but the owner read what it writes; a page may run as somebody else.
        shutil.copymode(scratch / "config.json", scratch / part)
    for part in parts:
        os.replace(scratch / part, folder / part)
    scratch.rmdir()
    return folder


def update_config(folder: Path, **entries: Any) -> None:
    """Change entries of a stored checkpoint's `bcx` block (temperature, gate ...), leaving the weights alone."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["bcx"].update(entries)
    scratch = file.with_suffix(".json.writing")
    scratch.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(scratch, file)
