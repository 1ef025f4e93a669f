"""Runs, each in a folder of its own: recognised by its fingerprint once finished, and carried out here or on Ray."""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from bcx.errors import ConfigError
from bcx.inference.cluster import connected, cores_of_each, has_gpus
from bcx.networks.device import use_device, wanted_device
from bcx.train.processes import processes
from bcx.train.provenance import current_commit, read_json, write_json
from bcx.train.state import STATE_FILE

#: In a run's folder: what it was, its network, its answers.
NOTE, NETWORK, ANSWERS = "run.json", "network", "oof.csv"
_RETRIES = 3  # of a run whose worker was lost

R = TypeVar("R")
OnEpoch = Callable[[dict[str, Any], int], object]  # called with an epoch's row of the history, the number of epochs
Tick = Callable[[], object]  # called when one more is done


def is_finished(folder: Path, fingerprint: str, *files: str) -> bool:
    """Tell whether a run of this fingerprint was finished in a folder, and left these files."""
    there = all((folder / file).is_file() for file in (NOTE, *files))
    return there and read_json(folder / NOTE)["fingerprint"] == fingerprint


@contextmanager
def noted(folder: Path, fingerprint: str, **about: Any) -> Iterator[dict[str, Any]]:
    """Note the run that the block makes, once all of it is done, with commit and seconds; its snapshot is removed.

    Of several processes the first one writes. The block may add to the note.
    """
    started = time.perf_counter()
    note = {"fingerprint": fingerprint, **about, "commit": current_commit()}
    yield note
    if processes().is_main_process:
        parts = sum(read_json(part)["seconds"] for part in folder.glob(f"*/{NOTE}"))  # members may be older
        write_json(folder / NOTE, note | {"seconds": round(max(time.perf_counter() - started, parts), 1)})
        (folder / STATE_FILE).unlink(missing_ok=True)
    processes().wait_for_everyone()


def carry_out(
    runs: Iterable[R],
    do: Callable[..., object],
    told: Mapping[str, Callable[..., object]],
    *,
    out: Path,
    most: int,
    is_done: Callable[[R], bool] = lambda run: False,
    cluster: str | None = None,
) -> Iterator[R]:
    """Do runs that do not depend on each other, and yield each when it has ended.

    Args:
        runs: asked for one at a time, as soon as the next can begin.
        do: does what is left of a run, in a folder of its own. Called with the run, and with `told` by name.
        told: what is called while a run is done; on a cluster, all of it when the run has ended.
        out: folder of all runs.
        most: of so many runs at most the cores of a cluster are shared out.
        is_done: tells which runs need no worker.
        cluster: None: here, one after the other. Else the address of a Ray cluster (see `bcx.inference.cluster`), whose
            nodes must see `out`, the current folder and whatever a run reads under the same paths as this process; a
            run whose worker is lost goes on elsewhere.

    Raises:
        BcxError: as `do`; no Ray, no such cluster, a node that does not see the folders, a worker lost too often.
    """
    if cluster is None:
        for run in runs:
            do(run, **told)
            yield run
        return
    if processes().num_processes > 1:
        raise ConfigError(
            "--engine ray was started in several processes.",
            expected="one process, which asks the cluster for others",
            remedy="Start it without accelerate launch.",
        )
    out.mkdir(parents=True, exist_ok=True)
    with connected(cluster) as ray, tempfile.NamedTemporaryFile(dir=out, prefix=".seen-by-nodes-") as seen:
        gpus = has_gpus(ray, wanted_device())
        cores, room = cores_of_each(ray, most, gpus=gpus)
        options = {"num_cpus": cores, "num_gpus": int(gpus), "max_calls": 1, "max_retries": _RETRIES}
        task, where = ray.remote(**options)(_do_elsewhere), (os.getcwd(), seen.name, wanted_device(), cores)
        going: dict[Any, R] = {}

        def ended() -> R:
            first = ray.wait(list(going))[0][0]
            for name, said in ray.get(first):
                told[name](*said)
            return going.pop(first)

        for run in runs:
            if is_done(run):
                do(run, **told)
                yield run
                continue
            going[task.remote(do, run, list(told), *where)] = run
            if len(going) == room:
                yield ended()
        while going:
            yield ended()


def _do_elsewhere(
    do: Callable[..., object], run: Any, names: Sequence[str], folder: str, seen: str, device: str, cores: int
) -> list[tuple[str, tuple[Any, ...]]]:
    """Do a run on a node of a cluster, and return what there was to tell: (which of `names`, arguments)."""
    if hidden := [path for path in (folder, seen) if not os.path.exists(path)]:
        raise ConfigError(
            f"The node '{platform.node()}' does not see '{hidden[0]}'.",
            expected="the current folder, --out and the scans on storage that all nodes share, under the same paths",
            remedy="Mount it on every node, and start the command from there.",
        )
    os.chdir(folder)
    use_device(device)
    torch.set_num_threads(cores)
    calls: list[tuple[str, tuple[Any, ...]]] = []
    do(run, **{name: lambda *said, name=name: calls.append((name, said)) for name in names})
    return calls
