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


def give_back_memory() -> None:
    """Return to the system what glibc's allocator keeps of visitors that are gone; it has an arena for each thread."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
