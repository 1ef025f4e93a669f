"""An audit from a folder to its findings."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import cv2
from threadpoolctl import threadpool_limits

import bcx
from bcx.audit.candidates import Index, Terms
from bcx.audit.features import KEYPOINTS, Store
from bcx.audit.findings import Audit, Pair, make_groups
from bcx.audit.listing import Listing, labels_of, list_files, parts_of, read_split
from bcx.audit.look import Look, look_at_some, look_from
from bcx.audit.matching import NEAR_DUPLICATE, Match, compare_some, ready
from bcx.audit.oddities import KINDS, Odd
from bcx.audit.outliers import no_scans, outliers
from bcx.errors import BcxError, writing
from bcx.imaging.names import MASK, NO_PICTURE
from bcx.inference.journal import Journal, stamp

SAME_PICTURE = "the same picture"
"""What is said of two files that decode to the same pixels."""
NO_SCAN = "The network finds that it does not look like a breast ultrasound scan."

Progress = Callable[[str, int, int], object]
Answer = TypeVar("Answer")

_CHUNK = 16  # files looked at in one go
_ROWS = 64  # scans for which candidates are looked up in one go
_PAIRS = 200  # pairs compared in one go
_FEW = 40  # files for which starting further processes takes longer than it saves
_VOCABULARY = 400  # scans from which words are learnt
_AHEAD = 16  # calls handed out before the first answer is awaited


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
        root: the folder, searched with all below.
        split: CSV table with the columns `file` and `split` or `fold`; without it, folders called train, val and test
            count as a split.
        work: folder for shrunken copies while the audit runs, which it also leaves out. They are deleted at the end; an
            audit that is stopped or killed leaves them, and the next one of the same folder goes on with them. Default
            the system's folder for temporary files, where nothing is kept.
        workers: processes; default one for each core.
        network: ask the input check of the default model whether unusual pictures are scans.
        resume: go on with what an unfinished audit of the same folder has left in `work`.
        write: called with the result before what was kept for a next run goes.
        on_progress: called with (stage, done, total) as the work goes on.

    Raises:
        DataError: no such folder.
        ConfigError: a split that does not fit.
        OutputError: `work` cannot be written, or has no room.
    """
    root = Path(root)
    begun = time.perf_counter()
    listing = list_files(root, leave_out=work)
    parts = read_split(split, listing.files) if split else parts_of(listing.files)
    processes = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with _kept(root, work, resume) as (folder, journal):
        store = Store(folder / "features")
        with _pool(processes if len(listing.files) > _FEW else 1) as pool:
            with writing(folder):
                looks = _look(pool, root, listing.files, store, journal, on_progress)
            pairs = _pairs(pool, looks, store, on_progress)
        found = _findings(root, listing, looks, pairs, parts, network, begun, on_progress)
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
    features, settings = work / ".audit.features", {"bcx": bcx.__version__, "folder": os.fspath(root.resolve())}
    try:
        with Journal(work / "audit", settings, resume=resume) as journal:
            with writing(work):
                features.mkdir(exist_ok=True)
            yield features, journal
    finally:
        if not (work / ".audit.unfinished").exists():
            shutil.rmtree(features, ignore_errors=True)


def _findings(
    root: Path,
    listing: Listing,
    looks: Sequence[Look],
    pairs: list[Pair],
    parts: dict[str, str],
    network: bool,
    begun: float,
    tell: Progress,
) -> Audit:
    """Say what the looks and pairs amount to."""
    pictures = sorted((look for look in looks if not look.stray), key=lambda look: look.file)
    notes = []
    coloured = sum(any(map(_no_ultrasound, look.odd)) for look in pictures)
    others = 2 * coloured > len(pictures)  # pictures of another kind, such as tissue: colour is nothing odd among them
    if others:
        notes.append(
            f"{coloured} of {len(pictures)} pictures are coloured or small: no ultrasound, so not held against it."
        )
    odd = [(pictures[number].file, what) for number, what in outliers(pictures)]
    odd += [(look.file, what) for look in pictures for what in look.odd if not (others and _no_ultrasound(what))]
    for name, why in listing.closed.items():
        odd.append((f"{name}/", Odd("unreadable", f"The folder cannot be opened ({why}).")))
    if network and not others:
        strangers, note = _ask_network(root, pictures, tell)
        odd += strangers
        notes += note
    order = list(KINDS)
    odd.sort(key=lambda each: (order.index(each[1].kind), each[0]))
    files = [look.file for look in pictures]
    labels = labels_of(files)
    groups = make_groups(
        [(pair.a, pair.b) for pair in pairs], {look.file: look.content for look in pictures}, labels, parts
    )
    left_out = [(look.file, NO_PICTURE) for look in looks if look.stray] + [(file, MASK) for file in listing.masks]
    seconds = time.perf_counter() - begun
    return Audit(root, pictures, pairs, groups, odd, labels, parts, sorted(left_out), tuple(notes), seconds)


def _no_ultrasound(odd: Odd) -> bool:
    """Whether this is odd about an ultrasound scan alone: colour, or few pixels."""
    tells = ("strong colours" in odd.detail, "is tiny" in odd.detail)
    return odd.kind in ("Doppler", "colour marks", "tint") or (odd.kind == "not a scan" and any(tells))


# --- stages ------------------------------------------------------------------------------------------------------


def _look(
    pool: Executor | None, root: Path, files: list[str], store: Store, journal: Journal | None, tell: Progress
) -> list[Look]:
    """Look at every file that the journal does not hold; features go into the store, each file's at its own place."""
    looks, stamps = {}, {}
    if journal is not None:
        stamps = {file: stamp(root / file) for file in files}
        looks = {file: look_from(journal.read(file)) for file in files if journal.holds(file, stamps[file])}
    places = count(1 + max((look.place for look in looks.values()), default=-1))
    left = [(next(places), file) for file in files if file not in looks]
    chunks = [(root, left[start : start + _CHUNK], store) for start in range(0, len(left), _CHUNK)]
    for some in _each(pool, look_at_some, chunks):
        for look in some:
            looks[look.file] = look
            if journal is not None:
                failed = any(odd.kind == "unreadable" for odd in look.odd)  # may have passed by the next time
                journal.add(look.file, None if failed else stamps[look.file], asdict(look))
        tell("Looking at files", len(looks), len(files))
    return [looks[file] for file in files]


def _pairs(pool: Executor | None, looks: Sequence[Look], store: Store, tell: Progress) -> list[Pair]:
    """Find all pairs: files with the same pixels directly, others through candidates."""
    same: dict[str, list[Look]] = defaultdict(list)
    for look in looks:
        if look.content:
            same[look.content].append(look)
    # In the order of their content, so that neither names nor the order of files change anything.
    unique = [same[content][0] for content in sorted(same) if same[content][0].comparable]
    files = {look.place: [each.file for each in same[look.content]] for look in unique}
    pairs = [
        _pair(copies[0].file, copy.file, Match(NEAR_DUPLICATE, 1.0, KEYPOINTS, False, (SAME_PICTURE,)))
        for copies in same.values()
        if copies[0].comparable
        for copy in copies[1:]
    ]
    for a, b, match in _matches(pool, [look.place for look in unique], store, tell):
        pairs.append(_pair(files[a][0], files[b][0], match))
    return sorted(pairs, key=lambda pair: (pair.kind, -pair.match.score, pair.a, pair.b))


def _pair(one: str, other: str, match: Match) -> Pair:
    return Pair(min(one, other), max(one, other), match)


def _matches(pool: Executor | None, places: list[int], store: Store, tell: Progress) -> list[tuple[int, int, Match]]:
    if len(places) < 2:
        return []
    sample = [store.read(place) for place in places[:: max(1, len(places) // _VOCABULARY)]]
    if not any(len(features.points) for features in sample):
        return []
    terms = Terms.learn(sample, len(places))
    blocks = [places[start : start + _ROWS] for start in range(0, len(places), _ROWS)]
    entries = _each(pool, terms.entries, [(store, block) for block in blocks])
    index = Index.build(terms, places, _counted(entries, "Indexing", [len(block) for block in blocks], tell))
    stored = store.path.with_suffix(".index")
    index.write(stored)
    rows = [(start, min(start + _ROWS, len(places))) for start in range(0, len(places), _ROWS)]
    found = _each(pool, _propose, [(stored, store, start, stop) for start, stop in rows])
    proposed: dict[tuple[int, int], int] = {}
    for some in _counted(found, "Looking for candidates", [stop - start for start, stop in rows], tell):
        for a, b, bits in some:
            proposed[a, b] = proposed.get((a, b), 0) | bits
    todo = [(places[a], places[b], bits) for (a, b), bits in sorted(proposed.items())]
    chunks = [todo[start : start + _PAIRS] for start in range(0, len(todo), _PAIRS)]
    matches: list[tuple[int, int, Match]] = []
    compared = _each(pool, compare_some, [(store, chunk, len(places)) for chunk in chunks])
    for matched in _counted(compared, "Comparing pairs", [len(chunk) for chunk in chunks], tell):
        matches += matched
    return matches


# --- processes ---------------------------------------------------------------------------------------------------


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    """Give processes to work in, or None for this one alone, and let go of what they kept at hand."""
    threads = cv2.getNumThreads()
    try:
        if workers < 2:
            cv2.setNumThreads(1)
            yield None
        else:
            # Spawned: a fork of a process that has threads (progress bars, OpenCV) may never wake up.
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
                yield pool
    finally:
        cv2.setNumThreads(threads)
        _lookup.cache_clear()
        ready.cache_clear()


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


def _each(pool: Executor | None, function: Callable[..., Answer], calls: Sequence[tuple[Any, ...]]) -> Iterator[Answer]:
    """Call a function for each of the argument tuples; answers in order, few of them waiting at a time."""
    if pool is None:
        for arguments in calls:
            yield function(*arguments)
        return
    waiting: deque[Future[Answer]] = deque()
    try:
        for arguments in calls:
            waiting.append(pool.submit(function, *arguments))
            if len(waiting) >= _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _counted(answers: Iterator[Answer], stage: str, sizes: Sequence[int], tell: Progress) -> Iterator[Answer]:
    done, total = 0, sum(sizes)
    for answer, size in zip(answers, sizes, strict=True):
        done += size
        tell(stage, done, total)
        yield answer


@lru_cache(maxsize=1)
def _lookup(index: Path) -> Index:
    return Index.read(index)


def _propose(index: Path, store: Store, start: int, stop: int) -> list[tuple[int, int, int]]:
    return _lookup(index).propose(store, start, stop)


# --- the network's word ------------------------------------------------------------------------------------------


def _ask_network(root: Path, looks: Sequence[Look], tell: Progress) -> tuple[list[tuple[str, Odd]], list[str]]:
    """Ask the default model's input check about the most unusual pictures; findings, and a note where it cannot."""
    from bcx.trust.claims import NOT_A_SCAN  # here, since it loads torch, which the other processes do without

    try:
        classifier = bcx.load()
    except BcxError as error:
        return [], [f"No network was asked whether unusual pictures are scans: {error.found}"]
    asked = 0

    def is_scan(some: Sequence[Look]) -> list[bool]:
        nonlocal asked
        answers = list(classifier.stream(root / look.file for look in some))
        asked += len(some)
        tell("Asking whether unusual pictures are scans", asked, asked)
        return [getattr(answer, "decision", "") != NOT_A_SCAN for answer in answers]

    found = [(looks[number].file, Odd("not a scan", NO_SCAN)) for number in no_scans(looks, is_scan)]
    return found, [f"The network looked at the {asked} most unusual pictures of {len(looks)}."] if asked else []
