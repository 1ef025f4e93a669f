"""An audit from a folder to its findings."""

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import count
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

import bcx
from bcx.audit import candidates
from bcx.audit.candidates import Terms, propose, write_index
from bcx.audit.features import KEYPOINTS, read_features
from bcx.audit.findings import Audit, Pair, make_groups
from bcx.audit.listing import labels_of, list_files, parts_of, read_split
from bcx.audit.look import Look, distances, look_at_some, outliers
from bcx.audit.matching import NEAR_DUPLICATE, Match, compare_some
from bcx.audit.oddities import KINDS, Odd
from bcx.errors import BcxError, writing
from bcx.imaging.names import MASK, NO_PICTURE
from bcx.inference.journal import Journal, stamp
from bcx.trust.claims import NOT_A_SCAN

SAME_PICTURE = "the same picture"  # what is said of two files that decode to the same pixels
NO_SCAN = "The network finds that it does not look like a breast ultrasound scan."
PATIENCE = 60  # scans in a row that pass before the network is no longer asked about the next less unusual one

Progress = Callable[[str, int, int], object]
Answer = TypeVar("Answer")

_CHUNK = 16  # files looked at in one go
_ROWS = 64  # scans for which candidates are looked up in one go
_PAIRS = 200  # pairs compared in one go
_FEW = 40  # files for which starting further processes takes longer than it saves
_VOCABULARY = 400  # scans from which words are learnt


def audit(
    root: str | os.PathLike[str],
    *,
    split: Path | None = None,
    work: Path | None = None,
    workers: int | None = None,
    network: bool = True,
    resume: bool = True,
    write: Callable[[Audit], object] = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> Audit:
    """Look through a folder for copies, leaks and odd files.

    Only pixels are compared; names serve to tell labels (from folders) and parts of a split.

    Args:
        split: CSV table with the columns `file` and `split` or `fold`; without it, folders called train, val and test
            count as a split.
        work: folder for shrunken copies while the audit runs, which it also leaves out. They are deleted at the end; an
            audit that is stopped or killed leaves them, and the next one goes on with them unless `resume` is False.
            Default the system's folder for temporary files, where nothing is kept.
        workers: processes; default one for each core.
        network: ask the input check of the default model whether unusual pictures are scans.
        write: called with the result before what was kept for a next run goes.
        on_progress: called with (stage, done, total) as the work goes on.

    Raises:
        DataError: no such folder.
        ConfigError: a split that does not fit.
        OutputError: `work` cannot be written, or has no room.
    """
    root = Path(root)
    begun = time.perf_counter()
    files, masks, closed = list_files(root, leave_out=work)
    parts = read_split(split, files) if split else parts_of(files)
    processes = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with _kept(root, work, resume) as (folder, journal):
        with _pool(processes if len(files) > _FEW else 1) as pool:
            with writing(folder):
                looks = _look(pool, root, files, folder, journal, on_progress)
            pairs = _pairs(pool, looks, folder, on_progress)
        pictures = sorted((look for look in looks if not look.stray), key=lambda look: look.file)
        odd, notes = _odd(root, pictures, closed, network, on_progress)
        labels = labels_of([look.file for look in pictures])
        tied = [(pair.a, pair.b) for pair in pairs]
        groups = make_groups(tied, {look.file: look.content for look in pictures}, labels, parts)
        left_out = [(look.file, NO_PICTURE) for look in looks if look.stray] + [(file, MASK) for file in masks]
        seconds = time.perf_counter() - begun
        found = Audit(root, pictures, pairs, groups, odd, labels, parts, sorted(left_out), tuple(notes), seconds)
        write(found)
        if journal is not None:
            journal.finish()
    return found


@contextmanager
def _kept(root: Path, work: Path | None, resume: bool) -> Iterator[tuple[Path, Journal | None]]:
    """Give a folder for features, and the journal of the files looked at; both stay where the audit is not finished."""
    if work is None:
        with tempfile.TemporaryDirectory(prefix="audit-") as folder:
            yield Path(folder), None
        return
    features, settings = work / ".audit.features", {"bcx": bcx.__version__, "scans": os.fspath(root.resolve())}
    try:
        with Journal(work / "audit", settings, resume=resume) as journal:
            with writing(work):
                features.mkdir(exist_ok=True)
            yield features, journal
    finally:
        if not (work / ".audit.unfinished").exists():
            shutil.rmtree(features, ignore_errors=True)


def _odd(
    root: Path, pictures: Sequence[Look], closed: dict[str, str], network: bool, tell: Progress
) -> tuple[list[tuple[str, Odd]], list[str]]:
    """Return what is odd, in the order of `KINDS`, and what is worth a note."""
    coloured = sum(any(map(_no_ultrasound, look.odd)) for look in pictures)
    others = 2 * coloured > len(pictures)  # pictures of another kind, such as tissue: colour is nothing odd among them
    odd = outliers(pictures)
    odd += [(look.file, what) for look in pictures for what in look.odd if not (others and _no_ultrasound(what))]
    odd += [(f"{name}/", Odd("unreadable", f"The folder cannot be opened ({why}).")) for name, why in closed.items()]
    notes = []
    if others:
        said = "pictures are coloured or small: no ultrasound, so not held against it."
        notes = [f"{coloured} of {len(pictures)} {said}"]
    elif network:
        strangers, notes = _ask_network(root, pictures, tell)
        odd += [(file, Odd("not a scan", NO_SCAN)) for file in strangers]
    return sorted(odd, key=lambda each: (list(KINDS).index(each[1].kind), each[0])), notes


def _no_ultrasound(odd: Odd) -> bool:
    """Whether this is odd about an ultrasound scan alone: colour, or few pixels."""
    small = odd.kind == "not a scan" and ("strong colours" in odd.detail or "is tiny" in odd.detail)
    return small or odd.kind in ("Doppler", "colour marks", "tint")


def _ask_network(root: Path, looks: Sequence[Look], tell: Progress) -> tuple[list[str], list[str]]:
    """Ask the default model's input check which pictures are no scans; the files, and what is worth a note.

    The most unusual ones are asked about first, until many in a row are scans: reading all would take too long.
    """
    try:
        classifier = bcx.load()
    except BcxError as error:
        return [], [f"No network was asked whether unusual pictures are scans: {error.found}"]
    able = [look for look in looks if look.comparable and not look.is_odd("not a scan")]
    if not able:
        return [], []
    order = np.argsort(-distances(np.array([look.measures for look in able])).max(axis=1), kind="stable")
    found: list[str] = []
    asked = passed = 0
    while asked < len(able) and passed < PATIENCE:
        some = [able[row].file for row in order[asked : asked + PATIENCE // 2]]
        for file, answer in zip(some, classifier.stream(root / file for file in some), strict=True):
            stranger = getattr(answer, "decision", "") == NOT_A_SCAN
            passed = 0 if stranger else passed + 1
            found += [file] * stranger
        asked += len(some)
        tell("Asking whether unusual pictures are scans", asked, asked)
    return found, [f"The network looked at the {asked} most unusual pictures of {len(looks)}."]


# --- stages ------------------------------------------------------------------------------------------------------


def _look(
    pool: Executor | None, root: Path, files: list[str], store: Path, journal: Journal | None, tell: Progress
) -> list[Look]:
    """Look at every file that the journal does not hold; features go into the store, each file's at its own place."""
    looks = {}
    stamps = {file: stamp(root / file) for file in files} if journal is not None else {}
    for file in files:
        if journal is not None and journal.holds(file, stamps[file]):
            stored = journal.read(file)
            told = {"odd": tuple(Odd(**each) for each in stored["odd"]), "measures": tuple(stored["measures"])}
            looks[file] = Look(**(stored | told))
    places = count(1 + max((look.place for look in looks.values()), default=-1))
    left = [(next(places), file) for file in files if file not in looks]
    look_at = partial(look_at_some, root, store)
    for look in _each(pool, "Looking at files", look_at, _chunks(left, _CHUNK), tell, len(looks)):
        looks[look.file] = look
        if journal is not None:
            failed = look.is_odd("unreadable")  # may have passed by the next time
            journal.add(look.file, None if failed else stamps[look.file], asdict(look))
    return [looks[file] for file in files]


def _pairs(pool: Executor | None, looks: Sequence[Look], store: Path, tell: Progress) -> list[Pair]:
    """Find all pairs: files with the same pixels directly, others through candidates."""
    same: dict[str, list[Look]] = defaultdict(list)
    for look in looks:
        if look.comparable:
            same[look.content].append(look)
    match = Match(NEAR_DUPLICATE, 1.0, KEYPOINTS, False, (SAME_PICTURE,))
    pairs = [Pair(copies[0].file, copy.file, match) for copies in same.values() for copy in copies[1:]]
    # In the order of their content, so that neither names nor the order of files change anything.
    unique = {same[content][0].place: same[content][0].file for content in sorted(same)}
    for a, b, match in _matches(pool, list(unique), store, tell):
        one, other = sorted((unique[a], unique[b]))
        pairs.append(Pair(one, other, match))
    return sorted(pairs, key=lambda pair: (pair.kind, -pair.match.score, pair.a, pair.b))


def _matches(pool: Executor | None, places: list[int], store: Path, tell: Progress) -> list[tuple[int, int, Match]]:
    if len(places) < 2:
        return []
    sample = [read_features(store, place) for place in places[:: max(1, len(places) // _VOCABULARY)]]
    if not any(len(features.points) for features in sample):
        return []
    terms, index = Terms.learn(sample, len(places)), store / "index"
    entries = partial(terms.entries, store)
    write_index(index, terms, places, _each(pool, "Indexing", entries, _chunks(places, _ROWS), tell))
    proposed, rows = Counter[tuple[int, int]](), _chunks(np.arange(len(places)), _ROWS)
    for a, b, bits in _each(pool, "Looking for candidates", partial(propose, index, store), rows, tell):
        proposed[a, b] |= bits
    chunks = _chunks([(places[a], places[b], bits) for (a, b), bits in sorted(proposed.items())], _PAIRS)
    return list(_each(pool, "Comparing pairs", partial(compare_some, store, len(places)), chunks, tell))


# --- processes ---------------------------------------------------------------------------------------------------


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    """Give processes to work in, or None for this one alone, and let go of what they kept at hand."""
    threads, pool = cv2.getNumThreads(), None
    try:
        if workers < 2:
            cv2.setNumThreads(1)
        else:  # spawned: a fork of a process that has threads (progress bars, OpenCV) may never wake up
            spawn = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread)
        yield pool
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(threads)
        candidates.clear()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Hold SIGINT back in this thread, and in processes that it starts until `_one_thread` has them ignore it.

    Else a process that Ctrl-C meets while it imports ends in a traceback. Another thread takes it for this process.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # which would end the block when it starts with the first process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _one_thread() -> None:
    """One process for each core is enough; threads in each would only wait for one another."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of them; the first process ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End with the process that handed out the work, also where that was killed: nobody would take the answers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _each(
    pool: Executor | None,
    stage: str,
    function: Callable[[Any], Iterable[Answer]],
    chunks: Sequence[Any],
    tell: Progress,
    done: int = 0,
) -> Iterator[Answer]:
    """Yield what a function returns of each chunk, one by one and in order."""
    total = done + sum(map(len, chunks))
    with _without_ctrl_c():  # processes start here
        answered = (pool.map if pool else map)(function, chunks)
    for answers, chunk in zip(answered, chunks, strict=True):
        yield from answers
        done += len(chunk)
        tell(stage, done, total)


def _chunks(items: Any, size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]
