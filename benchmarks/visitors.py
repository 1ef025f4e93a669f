"""Send many visitors to a running page at once: are their answers right, is anything left, does its memory grow?

    python benchmarks/visitors.py            # some eight minutes on two cores; writes results/benchmarks/visitors.json
    python benchmarks/visitors.py --quick    # to see that it works; its figures mean nothing

The page runs in a process of its own, as `demo.py` starts it. A visitor is what a browser is to it: a cookie, a
connection that lasts as long as the page is open, uploads and calls through the queue. Each one has scans of its own
(simulated), reads most of them one by one and the last two as a batch, and leaves; the next round starts when the
page's folder is empty. Every answer is compared with what the engine says to the same file alone, in this process.

Then a visitor closes the page while a batch runs, and others that never opened one ask in the name of sessions that
they make up, while somebody's batch runs.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import re
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

import bcx
from bcx.app.privacy import MOST_SESSIONS
from bcx.app.server import ROUND
from bcx.simulate import LABELS, simulate
from bcx.train.provenance import current_commit, write_json

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("gradio", "starlette", "uvicorn", "torch", "onnxruntime", "numpy", "pillow")
#: Scans of a visitor that are read as one batch.
BATCH = 2
#: Numbers of an answer may differ by so much from the engine's alone: batches are summed in another order.
CLOSE = 1e-4
EXACT = ("label", "decision", "lesion_box")
#: Seconds that a folder and a batch have to end after their page.
MOST_SECONDS = 2.0


class Page:
    """A running page: its address, its process, the folder that it may write to."""

    def __init__(self, url: str, process: int, folder: Path) -> None:
        self.url, self.folder = url, folder
        self._process = psutil.Process(process)
        config = httpx.get(f"{url}/config", timeout=60).json()
        parts = {part["id"]: part for part in config["components"]}
        # The first component of each call that reads something, by the name that the page gives it.
        self.calls: dict[str, tuple[int, list[Any]]] = {}
        for call in config["dependencies"]:
            inputs = [parts[place] for place in call["inputs"]]
            if inputs and call["backend_fn"]:
                name = inputs[0]["props"].get("elem_id") or ""
                self.calls.setdefault(name, (call["id"], [part["props"].get("value") for part in inputs]))

    def files(self) -> int:
        """How many files of visitors there are; Matplotlib's list of fonts is none."""
        names = chain.from_iterable(names for _, _, names in os.walk(self.folder))
        return sum(not name.startswith("fontlist-") for name in names)

    def megabytes(self) -> float:
        return round(self._process.memory_info().rss / 1e6, 1)

    def worked(self) -> float:
        """Processor seconds so far."""
        times = self._process.cpu_times()
        return times.user + times.system

    def wait_until_empty(self, seconds: float) -> float:
        """Seconds until no visitor's file is left."""
        begun = time.perf_counter()
        while self.files():
            if time.perf_counter() - begun > seconds:
                raise TimeoutError(f"{self.files()} files are still there after {seconds} s")
            time.sleep(0.02)
        return time.perf_counter() - begun


class Visitor:
    """One open page."""

    def __init__(self, page: Page) -> None:
        self.page, self.session = page, secrets.token_hex(8)
        self.api = f"{page.url}/gradio_api"
        self.client = httpx.Client(timeout=300, trust_env=False)
        self.client.get(page.url).raise_for_status()

    def __enter__(self) -> Visitor:
        self._open = self.client.stream("GET", f"{self.api}/heartbeat/{self.session}")
        self._open.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.__exit__(None, None, None)
        self.client.close()

    def upload(self, paths: Sequence[Path]) -> list[dict[str, str]]:
        # The server keeps what has the same name and content once, and sorts a batch by its names.
        names = [f"{place:04d}-{path.name}" for place, path in enumerate(paths)]
        sent = [("files", (name, path.read_bytes())) for name, path in zip(names, paths, strict=True)]
        answer = self.client.post(f"{self.api}/upload", files=sent).raise_for_status()
        return [{"path": at, "orig_name": name} for at, name in zip(answer.json(), names, strict=True)]

    def join(self, call: str, value: object) -> None:
        """Queue the call whose first component is `call`; the others have the values that a fresh page shows."""
        number, values = self.page.calls[call]
        body = {"data": [value, *values[1:]], "fn_index": number, "session_hash": self.session}
        self.client.post(f"{self.api}/queue/join", json=body).raise_for_status()

    def hear(self, until: str) -> list[str]:
        """Return the messages of the call that is queued, up to the first of that kind."""
        heard = []
        with self.client.stream("GET", f"{self.api}/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                heard.append(line.removeprefix("data: "))
                if f'"{until}"' in line:
                    return heard
        raise RuntimeError(f"the page ended before {until}: {heard[-1:]}")

    def ask(self, call: str, value: object) -> tuple[dict[str, Any], str]:
        """Return the result of a call, and all that was said as text."""
        self.join(call, value)
        heard = self.hear(until="process_completed")
        message = json.loads(heard[-1])
        if not message["success"]:
            raise RuntimeError(message["output"]["error"])
        return message["output"], "".join(heard)

    def fetch(self, heard: str, pattern: str) -> list[bytes]:
        """Return the files that an answer shows and whose names fit."""
        shown = set(re.findall(rf'/gradio_api/file=([^"\\]+?{pattern})', heard))
        return [self.client.get(f"{self.api}/file={at}").raise_for_status().content for at in sorted(shown)]

    def one(self, path: Path) -> dict[str, Any]:
        """Read one scan on the Classify tab, pictures included."""
        output, heard = self.ask("classify-upload", self.upload([path])[0])
        if len(self.fetch(heard, r"\.png")) != 2:
            raise RuntimeError("the scan and its overlay are not shown")
        said = next(part for part in output["data"] if isinstance(part, dict) and "weights_sha256" in part)
        return {**{key: said[key] for key in EXACT}, "probabilities": list(said["probabilities"].values())}

    def many(self, paths: Sequence[Path]) -> list[dict[str, Any]]:
        """Read scans on the Batch tab and take the table away."""
        uploads = self.upload(paths)
        _, heard = self.ask("batch-upload", uploads)
        (table,) = self.fetch(heard, r"\.csv")
        rows = list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"))))
        if [row["file"] for row in rows] != [upload["orig_name"] for upload in uploads]:
            raise RuntimeError("the table does not hold each file once and in order")
        return [
            {
                "label": row["label"],
                "decision": row["decision"],
                "lesion_box": [int(edge) for edge in row["lesion_box"].split()] or None,
                "probabilities": [float(row[name]) for name in row if name.startswith("p_")],
            }
            for row in rows
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=bcx.DEFAULT_MODEL)
    parser.add_argument("--visitors", type=int, default=64, help="at once")
    parser.add_argument("--scans", type=int, default=5, help="of each visitor in each round")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--made-up", type=int, default=MOST_SESSIONS + 200, help="sessions")
    parser.add_argument("--quick", action="store_true", help="4 visitors, 3 scans, 2 rounds, 20 made-up sessions")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "visitors.json")
    given = parser.parse_args(arguments)
    if given.quick:
        given.visitors, given.scans, given.rounds, given.made_up = 4, 3, 2, 20
    with tempfile.TemporaryDirectory(prefix="bcx-visitors-") as temporary:
        folder = Path(temporary)
        scans = write_scans(folder / "scans", given.visitors, given.scans)
        alone = said_alone(given.model, scans)
        with running(given.model, folder) as page:
            before = page.megabytes()
            rounds = [one_round(page, scans, alone, rest=0 if given.quick else ROUND + 1) for _ in range(given.rounds)]
            content = {
                "command": "python benchmarks/visitors.py"
                + (f" --model {Path(given.model).name}" if given.model != bcx.DEFAULT_MODEL else "")
                + (" --quick" if given.quick else ""),
                "commit": current_commit(),
                "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
                "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
                "model": Path(given.model).name,
                "visitors_at_once": given.visitors,
                "scans_of_each": given.scans,
                "memory_mb_before_anybody_came": before,
                "rounds": rounds,
                "all_right": all(each["right"] == each["answers"] for each in rounds),
                "memory_mb_per_round_after_the_first_three": growth([each["memory_mb"] for each in rounds]),
                "page_closed_during_its_batch": closing(page, scans),
                "made_up_sessions": made_up(page, scans, alone, given.made_up),
            }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, content)
    print(json.dumps(content, indent=2))


def write_scans(folder: Path, visitors: int, each: int) -> list[list[Path]]:
    """Write scans that are all different; per visitor."""
    folder.mkdir()
    paths = []
    for number in range(visitors * each):
        paths.append(folder / f"{number:04d}.png")
        height, width = 200 + number % 7 * 40, 240 + number % 5 * 60
        Image.fromarray(simulate(LABELS[number % 3], number, height, width).pixels).save(paths[-1])
    return [paths[start : start + each] for start in range(0, len(paths), each)]


def said_alone(model: str, scans: Sequence[Sequence[Path]]) -> dict[Path, dict[str, Any]]:
    """What the engine says to each scan, one after the other, without any page."""
    classifier, said = bcx.load(model), {}
    for path in (path for own in scans for path in own):
        answer = classifier.predict(path).to_dict()
        said[path] = {**{key: answer[key] for key in EXACT}, "probabilities": list(answer["probabilities"].values())}
    return said


@contextmanager
def running(model: str, folder: Path) -> Iterator[Page]:
    """Start `demo.py` with an empty home, and stop it in the end as a container does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name in ("home", "temp"):
        (folder / name).mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    own = {"HOME": str(folder / "home"), "TMPDIR": str(folder / "temp"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "demo.py"), "--checkpoint", model, "--port", str(port)]
    with (folder / "log.txt").open("w") as log:
        program = subprocess.Popen(command, cwd=folder, env={**kept, **own}, stdout=log, stderr=log)
        try:
            begun = time.monotonic()
            while not answers(url := f"http://127.0.0.1:{port}"):
                if program.poll() is not None or time.monotonic() - begun > 300:
                    raise RuntimeError((folder / "log.txt").read_text())
                time.sleep(0.2)
            yield Page(url, program.pid, folder / "temp")
        finally:
            program.send_signal(signal.SIGTERM)
            program.wait(60)
    if "Traceback" in (said := (folder / "log.txt").read_text()):
        raise RuntimeError(said)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/config", timeout=10, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def one_round(
    page: Page, scans: Sequence[list[Path]], alone: dict[Path, dict[str, Any]], rest: float
) -> dict[str, Any]:
    """Let everybody in at once, compare what they heard, and wait until nothing of them is left, and `rest` seconds."""
    begun, most = time.perf_counter(), 0

    def visit(own: list[Path]) -> list[dict[str, Any]]:
        with Visitor(page) as visitor:
            return [*(visitor.one(path) for path in own[:-BATCH]), *visitor.many(own[-BATCH:])]

    with ThreadPoolExecutor(len(scans)) as pool:
        waiting = [pool.submit(visit, own) for own in scans]
        while not all(each.done() for each in waiting):
            most = max(most, page.files())
            time.sleep(0.2)
        heard = [answer for each in waiting for answer in each.result()]
    seconds = time.perf_counter() - begun
    expected = [alone[path] for own in scans for path in own]
    apart = [distance(a, b) for a, b in zip(heard, expected, strict=True)]
    result = {
        "answers": len(heard),
        "right": sum(each <= CLOSE for each in apart),
        "largest_difference": float(f"{max(apart):.2g}"),
        "seconds": round(seconds, 1),
        "most_files": most,
        "seconds_until_no_file_was_left": round(page.wait_until_empty(30), 2),
    }
    time.sleep(rest)  # for the page to forget them
    result["memory_mb"] = page.megabytes()
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def distance(heard: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest difference of two answers' probabilities; infinite where anything else differs."""
    if any(heard[key] != expected[key] for key in EXACT):
        return float("inf")
    return float(np.abs(np.subtract(heard["probabilities"], expected["probabilities"])).max())


def growth(megabytes: Sequence[float]) -> float | None:
    """Median of what each round added; the first three fill what is kept for good."""
    return round(statistics.median(np.diff(megabytes[2:])), 1) if len(megabytes) > 3 else None


def closing(page: Page, scans: Sequence[list[Path]]) -> dict[str, Any]:
    """Close a page in the middle of a large batch: seconds until its files are gone, and until the page rests."""
    paths = [path for own in scans for path in own] * 3
    with Visitor(page) as visitor:
        uploads = visitor.upload(paths)
        visitor.join("batch-upload", uploads)
        visitor.hear(until="process_generating")
        files = page.files()
    closed = time.perf_counter()
    gone = page.wait_until_empty(60)
    rests = None
    while rests is None and time.perf_counter() - closed < 60:
        now, before = time.perf_counter(), page.worked()
        time.sleep(0.25)
        if page.worked() - before < 0.05:
            rests = now - closed
    if rests is None:
        raise TimeoutError("the batch of a closed page goes on")
    return {
        "scans": len(paths),
        "files": files,
        "seconds_until_no_file_was_left": round(gone, 2),
        "seconds_until_it_rests": round(rests, 2),
        "within_limit": max(gone, rests) <= MOST_SECONDS,
    }


def made_up(
    page: Page, scans: Sequence[list[Path]], alone: dict[Path, dict[str, Any]], sessions: int
) -> dict[str, Any]:
    """Ask in the name of sessions that have no page while a batch runs."""
    paths = [path for own in scans for path in own] * 2
    call, values = page.calls["classify-upload"]

    def ask(stranger: httpx.Client) -> bool:
        # A session is made before the file is looked up, which this one was not sent.
        body = {"data": [{"path": "none.png"}, *values[1:]], "fn_index": call, "session_hash": secrets.token_hex(8)}
        return "no uploaded file" in stranger.post(f"{page.url}/gradio_api/run/x", json=body).text

    with Visitor(page) as visitor, ThreadPoolExecutor(9) as pool, httpx.Client(timeout=60, trust_env=False) as stranger:
        batch = pool.submit(visitor.many, paths)
        asked = list(pool.map(ask, [stranger] * sessions))
        during = not batch.done()
        heard = batch.result()
    page.wait_until_empty(30)
    right = sum(distance(said, alone[path]) <= CLOSE for said, path in zip(heard, paths, strict=True))
    return {
        "asked": len(asked),
        "answered_in_words": sum(asked),
        "batch": len(paths),
        "batch_ran_longer": during,
        "right": right,
    }


if __name__ == "__main__":
    main()
