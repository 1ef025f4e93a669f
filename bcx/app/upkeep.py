"""What runs beside the page's calls: what Gradio keeps of pages that are gone, and unclaimed uploads, are dropped."""

from __future__ import annotations

import asyncio
import ctypes
import datetime
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

#: Seconds between two rounds, and for which a caller without an open page may still fetch its answer.
ROUND, UNFETCHED = 5.0, 60.0
#: Seconds after which an upload that no call has named is deleted.
UNCLAIMED = 3600.0
_GLIBC = ctypes.CDLL(None) if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim") else None
#: From glibc's malloc.h.
_M_ARENA_MAX = -8


@asynccontextmanager
async def upkeep(page: Any, _: Any) -> AsyncIterator[None]:
    """Do both every few seconds while the server runs."""

    async def forever() -> None:
        while True:
            await asyncio.sleep(ROUND)
            if forget(page, UNFETCHED):
                await asyncio.to_thread(give_back_memory)
            await asyncio.to_thread(page.bcx_sessions.uploads.sweep, UNCLAIMED)

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()


def forget(page: Any, seconds: float) -> int:
    """Drop what Gradio keeps of pages that were closed, and of sessions without one after so many seconds; how many.

    It keeps the values of every component for each of the last 10,000 sessions, the answers that 2,000 of them did not
    fetch, and the path of every file that it ever received or showed. To be called in the server's own thread.
    """
    states, queue = page.state_holder, page._queue
    busy = {event.session_hash for event in queue.event_ids_to_events.values()}
    closed = page.bcx_sessions.take_closed()
    since = datetime.datetime.now() - datetime.timedelta(seconds=seconds)
    forgotten = 0
    held = (states.session_data, queue.pending_messages_per_session, queue.pending_event_ids_session)
    for name in {name for kept in held for name in kept}:
        last = states.time_last_used.get(name)
        over = name in closed or last is None or last < since
        if over and name not in busy and not page.bcx_sessions.is_open(name):
            for kept in (*held, states.time_last_used):
                kept.pop(name, None)
            forgotten += 1
    for paths in page.temp_file_sets:
        paths.clear()
    return forgotten


def share_arenas() -> None:
    """Let glibc's allocator keep two arenas for all threads instead of eight per core, before there are any threads.

    Each keeps the most that it ever held, in pieces: the process would grow while what it uses stays the same.
    """
    if _GLIBC is not None:
        _GLIBC.mallopt(_M_ARENA_MAX, 2)


def give_back_memory() -> None:
    """Return to the system what the allocator keeps of visitors that are gone."""
    if _GLIBC is not None:
        _GLIBC.malloc_trim(0)
