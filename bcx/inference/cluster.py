"""Scans by the million on a Ray cluster: a table in shards, each written whole by whoever answered its scans.

A shard is a run of scans in the order of the local engine, and batches begin where the local engine's do, so that rows
are the same but for their seconds. Its file's name holds a hash of what it is made from: where the file is, the shard
is done, for whoever asks: a worker whose node came back, or a driver that was started again.
"""

from __future__ import annotations

import json
import logging
import math
import posixpath
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bcx.errors import BcxError, CheckpointError, ConfigError, writing
from bcx.files import whole
from bcx.inference.shards import Shard, filesystem, imported

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

    #: Gives the overlays of an answer: the end of each name, and its bytes.
    Draw = Callable[[Prediction], Iterable[tuple[str, bytes]]]

#: The address that starts a cluster on this machine.
HERE = "local"
FORMS = ("parquet", "csv")
_RUN = "_run.json"


@dataclass(frozen=True)
class Job:
    """What a run does with every scan."""

    model: str  # name, folder or Hub id, which every node can load
    weights_sha256: str  # a node that has other weights is refused
    out: str  # folder of the shards, or a URL that fsspec knows; every node must see it
    form: str  # one of `FORMS`
    options: dict[str, Any] = field(default_factory=dict)  # of `bcx.load`
    overlays: dict[str, Any] | None = None  # where some are asked for: their `folder`, as `out`, and how they are drawn


def answer_shard(job: Job, classifier: Classifier, shard: Shard, draw: Draw | None = None) -> dict[str, Any]:
    """Answer the scans of a shard and write overlays, then it, unless its file is there already.

    Returns:
        How many `scans`, how many `failed`, and of each of the `decisions`; none of the latter where it was there.
    """
    from bcx.inference.prediction import Prediction
    from bcx.inference.table import row

    fs, folder = filesystem(job.out)
    path = posixpath.join(folder, shard.name(job.form))
    tally: Counter[str] = Counter()
    if not fs.exists(path):
        entries, rows = shard.entries(), []
        beside, place = filesystem(job.overlays["folder"]) if job.overlays else (None, "")
        made: set[str] = set()
        for entry, answer in zip(entries, classifier.stream(entry.source for entry in entries), strict=True):
            tally[answer.decision if isinstance(answer, Prediction) else "failed"] += 1
            rows.append(row(answer, entry.file, classifier.task))
            if beside is not None and draw is not None and isinstance(answer, Prediction):
                base = posixpath.join(place, entry.base)
                if (below := posixpath.dirname(base)) not in made:
                    _make(beside, below)
                    made.add(below)
                for end, data in draw(answer):
                    _put(beside, base + end, data)
        _put(fs, path, _encoded(rows, classifier.task, job.form))
    failed = tally.pop("failed", 0)
    return {"scans": shard.count, "failed": failed, "decisions": dict(tally)}


def _encoded(rows: list[dict[str, Any]], task: Task, form: str) -> bytes:
    from bcx.inference.table import columns, csv_lines

    if form == "csv":
        return "".join(csv_lines(rows, columns(task))).encode("utf-8", "backslashreplace")
    pyarrow = imported("pyarrow")
    kinds = {"confidence": "float64", "seconds": "float64", "lesion_share": "float64", "frame": "int64"}
    kinds |= {f"p_{name}": "float64" for name in task.classes}
    schema = pyarrow.schema([(name, kinds.get(name, "string")) for name in columns(task)])
    # An empty cell says in CSV that there is no number; Parquet has nulls.
    cells = [{name: None if name in kinds and cell == "" else cell for name, cell in each.items()} for each in rows]
    buffer = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(cells, schema), buffer)
    return buffer.getvalue().to_pybytes()


def _put(fs: Any, path: str, data: bytes) -> None:
    """Write a file whole or not at all, as object stores do by themselves."""
    if "file" not in (fs.protocol if isinstance(fs.protocol, tuple | list) else (fs.protocol,)):
        fs.pipe_file(path, data)
        return
    with writing(path), whole(path) as partial:
        partial.write_bytes(data)


def _make(fs: Any, folder: str) -> None:
    with writing(folder):
        fs.makedirs(folder, exist_ok=True)


class _Worker:
    def __init__(self, job: Job, draw: Draw | None) -> None:
        from bcx.inference.classifier import load

        self._job, self._draw, self._classifier = job, draw, load(job.model, **job.options)
        if self._classifier.weights_sha256 != job.weights_sha256:
            raise CheckpointError(
                f"A node has another '{job.model}' (weights {self._classifier.weights_sha256[:12]}).",
                expected=f"the same weights on every node ({job.weights_sha256[:12]})",
                remedy="Install the same version of bcx and of the model everywhere.",
            )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        shard = Shard(**json.loads(str(batch["shard"][0])))
        return {"done": [json.dumps(answer_shard(self._job, self._classifier, shard, self._draw))]}


def run(
    job: Job, shards: Sequence[Shard], *, address: str | None = None, resume: bool = True, draw: Draw | None = None
) -> Iterator[dict[str, Any]]:
    """Answer shards on a Ray cluster, one classifier per GPU where there are any, else per core.

    Args:
        address: of a running cluster; None starts one on this machine, and ends it.
        resume: keep the shards that are done; else they are deleted first.
        draw: of a module that every node has; for `job.overlays`.

    Yields:
        What `answer_shard` returns, in the order in which shards are done, at first those that were.

    Raises:
        ConfigError: `job.out` holds another run's shards, or there is no such cluster.
        MissingExtra: Ray is not installed.
        BcxError: what a worker met that is no scan's fault, such as a full disk.
    """
    imported("ray")
    there = _prepare(job, shards, resume)
    left = [shard for shard in shards if shard.name(job.form) not in there]
    for shard in shards:
        if shard.name(job.form) in there:
            yield {"scans": shard.count, "failed": 0, "decisions": {}, "kept": True}
    if left:
        with connected(address or HERE) as ray:
            yield from _answers(ray, job, left, draw)


def _answers(ray: Any, job: Job, shards: Sequence[Shard], draw: Draw | None) -> Iterator[dict[str, Any]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # the bar of the command says what is done
    per_gpu = has_gpus(ray, job.options.get("device", "auto"))
    workers = int(ray.cluster_resources().get("GPU" if per_gpu else "CPU", 1))
    items = [{"shard": json.dumps(asdict(shard))} for shard in shards]
    answered = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _Worker,
        fn_constructor_args=(job, draw),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        **({"num_gpus": 1} if per_gpu else {"num_cpus": 1}),
    )
    for each in answered.iter_rows():
        yield json.loads(each["done"])


def _prepare(job: Job, shards: Sequence[Shard], resume: bool) -> set[str]:
    """Return the names of the files that are there, once it is sure that they belong to this run."""
    fs, folder = filesystem(job.out)
    _make(fs, folder)
    if job.overlays:
        _make(*filesystem(job.overlays["folder"]))
    # An object store has no empty folders, so that there may still be none.
    there = {posixpath.basename(name) for name in fs.ls(folder, detail=False)} if fs.exists(folder) else set()
    parts = {name for name in there if name.startswith("part-")}
    settings = json.loads(json.dumps({key: value for key, value in asdict(job).items() if key != "out"}))
    if not resume:
        for name in parts:
            fs.rm(posixpath.join(folder, name))
    elif parts:
        before: dict[str, Any] = {}
        with suppress(FileNotFoundError, ValueError, TypeError):  # what is no table of settings is none
            before = dict(json.loads(fs.cat_file(posixpath.join(folder, _RUN))))
        differ = sorted(key for key in settings if before.get(key) != settings[key])
        strange = parts - {shard.name(job.form) for shard in shards}
        if differ or strange:
            why = f"settings differ: {', '.join(differ)}" if differ else f"{len(strange)} of other or changed scans"
            raise ConfigError(
                f"'{job.out}' holds shards of another run ({why}).",
                expected="a folder of its own for each run",
                remedy="Name another folder, or delete these shards with --no-resume.",
            )
    _put(fs, posixpath.join(folder, _RUN), (json.dumps(settings, indent=1) + "\n").encode())
    return parts if resume else set()


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give Ray, connected to the cluster at `address`, or to one that starts here (`HERE`) and ends with the block.

    Errors as `run`: what a worker raised, as it raised it, or `BcxError` where one was lost too often.
    """
    ray = imported("ray")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # a machine that is too busy to start one is a plain one
        raise ConfigError(
            f"There is no Ray cluster at '{address}' ({error}).",
            expected="the address of a running cluster, such as auto on one of its nodes, or none",
            remedy="Start one with: ray start --head",
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would end the command with another status
    try:
        yield ray
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        told = BcxError | OSError  # what the command line says in words
        while cause is not None and (isinstance(cause, ray.exceptions.RayError) or not isinstance(cause, told)):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is not None:
            raise cause from error
        if isinstance(error, ray.exceptions.RayTaskError):  # a fault of the code
            raise
        raise BcxError(
            f"The cluster lost a worker too often ({type(error).__name__}: {str(error)[:300]}).",
            expected="nodes that stay, with memory enough",
            remedy="Give it other nodes, and start the same command again: what is done is kept.",
        ) from error
    finally:
        ray.shutdown()


def has_gpus(ray: Any, device: str) -> bool:
    """Tell whether workers that were asked for this device get a GPU each."""
    return ray.cluster_resources().get("GPU", 0) >= 1 and device in ("auto", "cuda")


def cores_of_each(ray: Any, most: int, *, gpus: bool) -> tuple[int, int]:
    """Return how many cores each of at most `most` workers gets, and how many workers find room at once.

    As many cores as let all of them work at once, or with a GPU each as many as there are GPUs; one at least.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def room(cores: int) -> int:
        return sum(int(min(node.get("CPU", 0) // cores, node.get("GPU", 0) if gpus else math.inf)) for node in nodes)

    largest = int(max(node.get("CPU", 0) for node in nodes))
    cores = max((count for count in range(1, largest + 1) if room(count) >= min(most, room(1))), default=1)
    return cores, max(room(cores), 1)
