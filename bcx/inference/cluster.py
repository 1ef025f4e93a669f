"""A Ray cluster: one that runs already, or one that starts on this machine and ends with the work."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bcx.errors import BcxError, ConfigError
from bcx.inference.shards import imported

#: The address that starts one here.
HERE = "local"


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give Ray, connected to the cluster at `address`, or to one that starts here (`HERE`) and ends with the block.

    Raises:
        MissingExtra: Ray is not installed.
        ConfigError: there is no such cluster.
        BcxError: what a worker raised, as it raised it, or a worker was lost too often.
    """
    ray = imported("ray", "data")
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
