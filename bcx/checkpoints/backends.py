"""What runs a network for answers: torch, or ONNX Runtime where its file lies beside the checkpoint."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from bcx.checkpoints.checkpoint import Checkpoint
from bcx.errors import CheckpointError, ConfigError, MissingExtra, check_name, from_extra, loading
from bcx.networks.build import fold_norms
from bcx.networks.device import pick_device
from bcx.networks.ensemble import LesionEnsemble
from bcx.networks.run import Forward, Outputs, run_network

if TYPE_CHECKING:
    import onnxruntime

Wanted = Literal["auto", "torch", "onnxruntime"]

ONNX_FILE = "model.onnx"  # the network as one graph, beside the weights that it was made from
SECOND = "second_"  # before the name of an output that differs in the second stage
_ELSEWHERE = b"location"  # where ONNX notes that a tensor's numbers lie in another file, which ours never do
#: Raise this when `bcx.networks.build.forward_maps` or the graph's input or outputs change: older files are refused.
_GRAPH_FORMAT = 2


@dataclass(frozen=True)
class Backend:
    """What runs a checkpoint's network. Safe to use from several threads at once."""

    name: str  # "torch" or "onnxruntime"
    device: str  # "cpu", "cuda" or "mps"
    forward: Forward  # with all threads that torch may use
    alone: Forward  # in the calling thread, for workers of which every core has one; torch: as the thread is set


def choose_backend(checkpoint: Checkpoint, wanted: Wanted = "auto", device: str = "auto") -> Backend:
    """Return what answers with a checkpoint; `device` as in `bcx.networks.device.pick_device`.

    "auto" is ONNX Runtime where it is installed, the checkpoint has a `model.onnx` made from its present weights, and
    the device is a CPU; else torch, with a warning where the file misfits.

    `ConfigError`: another word, no such device, or ONNX Runtime on another device than a CPU. `MissingExtra`,
    `CheckpointError`: ONNX Runtime is wanted, and not installed, or no `model.onnx` fits the weights.
    """
    check_name(wanted, get_args(Wanted), "backend")
    where = pick_device(device)
    if wanted == "onnxruntime" and device not in ("auto", "cpu"):
        raise ConfigError(
            f"ONNX Runtime was asked for on '{device}'.",
            expected="ONNX Runtime on a CPU, or torch",
            remedy="Leave out the backend or the device.",
        )
    file = checkpoint.folder / ONNX_FILE
    if wanted == "onnxruntime" or (wanted == "auto" and where == "cpu" and file.is_file()):
        try:
            # The first threads share one pool; a session of its own, which has none, lets every worker compute alone.
            sessions = [open_session(checkpoint, file, threads=threads) for threads in (torch.get_num_threads(), 1)]
            return Backend("onnxruntime", "cpu", *(partial(run_session, session) for session in sessions))
        except (MissingExtra, CheckpointError) as error:
            if wanted == "onnxruntime":
                raise
            if isinstance(error, CheckpointError):
                warnings.warn(f"{error.found} Torch answers instead. {error.remedy}", stacklevel=2)
    network = fold_norms(checkpoint.network).to(where, memory_format=torch.channels_last)
    forward = partial(run_network, network, checkpoint.preprocess)
    return Backend("torch", where, forward, forward)


def open_session(checkpoint: Checkpoint, file: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph that was made from a checkpoint; `threads` compute one forward pass, the calling one among them.

    `CheckpointError`: the file is missing or damaged, names other files, was made from other weights, or has other
    inputs and outputs than it should. `MissingExtra`: ONNX Runtime is not installed.
    """

    def wrong(what: str, expected: str = "a graph written by bcx export") -> CheckpointError:
        found = f"The {ONNX_FILE} of '{checkpoint.name}' {what}."
        return CheckpointError(found, expected=expected, remedy=f"Write it with: bcx export {checkpoint.name}")

    if not file.is_file():
        raise wrong("is not there")
    runtime = import_onnx_runtime()
    if _ELSEWHERE in file.read_bytes():
        raise wrong("keeps numbers in files outside itself", "a graph written by bcx export, which holds all of them")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    try:
        session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"], enable_fallback=0)
        noted = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # ONNX Runtime's own kinds have no base in common
        raise wrong(f"could not be loaded ({type(error).__name__})") from error
    if any(noted.get(key) != value for key, value in stamp(checkpoint).items()):
        raise wrong("was made from other weights or by another version of bcx", "a graph of the weights beside it")
    side, grey, classes = checkpoint.preprocess.size, checkpoint.preprocess.grey, checkpoint.task.classes
    ends = {end.name: (end.type, end.shape[1:]) for end in (*session.get_inputs(), *session.get_outputs())}
    planes, logits = ("tensor(uint8)", [side, side] if grey else [side, side, 3]), ("tensor(float)", [len(classes)])
    if (ends.get("planes"), ends.get("logits")) != (planes, logits) or len(session.get_inputs()) != 1:
        expected = f"pictures of {side} pixels, and a logit for each of {', '.join(classes)}"
        raise wrong("has other inputs or outputs than its network", expected)
    return session


def run_session(session: onnxruntime.InferenceSession, planes: np.ndarray, *, enlarged: bool = False) -> Outputs:
    """Run a graph as `run_network` does; in the second stage (`enlarged`) some have outputs of their own.

    `CheckpointError`: it cannot be computed, or yields other shapes than it says.
    """
    shapes = {output.name: output.shape for output in session.get_outputs()}
    known = [name for name in Outputs._fields if name in shapes]
    asked = {name: SECOND + name if enlarged and SECOND + name in shapes else name for name in known}
    options = import_onnx_runtime().RunOptions()
    # Else the runtime would also compute what only the other stage asks for.
    options.only_execute_path_to_fetches = True
    remedy = "Write it again with bcx export, or answer through torch."
    with loading(f"The {ONNX_FILE} cannot be computed", "a graph written by bcx export", remedy=remedy):
        found = dict(zip(asked, session.run(list(asked.values()), {"planes": planes}, options), strict=True))
        for name, array in found.items():
            said = [len(planes), *shapes[asked[name]][1:]]
            if (
                array.dtype != np.float32
                or array.ndim != len(said)
                or any(isinstance(side, int) and side != length for side, length in zip(said, array.shape, strict=True))
            ):
                raise ValueError(f"{asked[name]} is {array.dtype} {list(array.shape)}, said to be {said}")
        return Outputs(**({"lesion": None} | found))


def stamp(checkpoint: Checkpoint) -> dict[str, str]:
    """Return what a graph must have been made from to stand for a checkpoint's network and preprocessing."""
    made_from = {
        "bcx_graph": str(_GRAPH_FORMAT),
        "bcx_weights_sha256": checkpoint.weights_sha256,
        "bcx_preprocess": json.dumps(checkpoint.preprocess.to_dict(), sort_keys=True),
    }
    if isinstance(checkpoint.network, LesionEnsemble) and checkpoint.network.readers:
        # The graph holds the shares as numbers, and they are no weights.
        made_from["bcx_picture"] = json.dumps(asdict(checkpoint.network.share), sort_keys=True)
    return made_from


def import_onnx_runtime() -> Any:
    """Return the module onnxruntime, silenced also where `bcx.telemetry` cannot: in Windows builds before 1.29."""
    with from_extra("fast", "ONNX Runtime is not installed."):
        import onnxruntime
    onnxruntime.disable_telemetry_events()
    return onnxruntime
