"""Starting the page: options, settings that keep it private, launch; and what runs beside its calls."""

from __future__ import annotations

import argparse
import asyncio
import atexit
import datetime
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcx
from bcx import DEFAULT_MODEL
from bcx.app.login import VARIABLE, Login, read_login
from bcx.errors import ConfigError
from bcx.networks.device import GLIBC, use_device

if TYPE_CHECKING:
    import gradio as gr

MAX_FILE_SIZE = "100mb"
#: Where slides are read; they go to disk piece by piece, never into memory whole.
MAX_SLIDE_SIZE = "2gb"
PREFIX = "bcx-page-"
#: Seconds between two rounds, and for which a caller without an open page may still fetch its answer.
ROUND, UNFETCHED = 5.0, 60.0
#: Seconds after which an upload that no call has named is deleted.
UNCLAIMED = 3600.0
#: Takes seconds to import, with Matplotlib and all of scikit-learn behind it.
EXPLAINING = "pytorch_grad_cam.metrics.road"


def options(arguments: Sequence[str]) -> argparse.Namespace:
    about = "Open the page. For research and teaching, never for diagnosis."
    parser = argparse.ArgumentParser(prog="bcx serve", description=about)
    parser.add_argument("--checkpoint", default=DEFAULT_MODEL, help="a model's name, its folder, or a Hub id")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|mps", help="where networks run")
    parser.add_argument("--host", help="address to listen on (default: GRADIO_SERVER_NAME, or this machine only)")
    parser.add_argument("--port", type=int, help="port (default: GRADIO_SERVER_PORT, or the first free one from 7860)")
    parser.add_argument("--share", action="store_true", help="make a public link through Gradio's servers")
    who = f"who may use the page: a file with a line name:password each (default: {VARIABLE}, or everybody)"
    parser.add_argument("--login", metavar="FILE", help=who)
    chosen = parser.parse_args(arguments)
    try:
        use_device(chosen.device)
        chosen.login = read_login(chosen.login)
    except ConfigError as error:
        parser.error(str(error))
    return chosen


def keep_private() -> None:
    """Set what must be set before Gradio is imported, so that uploads, and all that it writes, lie in our own folder.

    The folder can be read by this user only, is deleted when the program ends, and what a killed program left
    behind is deleted at the next start.
    """
    # A page that was closed is noticed after at most this many seconds.
    os.environ.setdefault("GRADIO_HEARTBEAT_INTERVAL", "3")
    # Gradio times every call for a dashboard that is off here: 10,000 of them are summed up again at each answer.
    os.environ.update(GRADIO_ANALYTICS_MAX_EVENTS="1", GRADIO_ANALYTICS_CACHE_FREQUENCY=str(10**9))
    place = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir())
    place.mkdir(parents=True, exist_ok=True)
    sweep_left_behind(place)
    folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place)
    os.environ["GRADIO_TEMP_DIR"] = folder
    # Torch makes its cache's folder when it is imported. Where Matplotlib is installed, Gradio loads it for every call,
    # and it would list this machine's fonts in a cache.
    for name, value in (("TORCHINDUCTOR_CACHE_DIR", folder), ("MPLCONFIGDIR", folder), ("MPLBACKEND", "agg")):
        os.environ.setdefault(name, value)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def sweep_left_behind(place: Path) -> None:
    for folder in place.glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:  # any other means that it belongs to somebody else
        return not isinstance(error, ProcessLookupError)
    return True


def create(checkpoint: str) -> gr.Blocks:
    keep_private()
    share_arenas()
    if find_spec("spaces") is not None:
        import spaces  # noqa: F401  (ZeroGPU replaces parts of torch, and must come before it)
    from bcx.app.page import build_app

    # Of the current directory, or of the checkout that this code lies in.
    places = (place / "examples" for place in (Path.cwd(), Path(__file__).resolve().parents[2]))
    examples = next((place for place in places if (place / "examples.csv").is_file()), None)
    return build_app(bcx.load(checkpoint), examples)


def launch(page: gr.Blocks, login: Login | None = None, **more: Any) -> Any:
    """Launch the page with the settings that every entry point shares; `more` goes to `Blocks.launch`."""
    from starlette.middleware import Middleware

    from bcx.app.middleware import Guard
    from bcx.app.theme import CSS, HEAD, theme

    app: Any = page  # with what `build_app` added
    guard = Middleware(Guard, page=app, sessions=app.bcx_sessions, login=login)
    size = MAX_SLIDE_SIZE if app.bcx_slides else MAX_FILE_SIZE
    look: dict[str, Any] = {"theme": theme(), "css_paths": CSS, "head": HEAD, "footer_links": ["api", "settings"]}
    off = dict.fromkeys(("run_history", "enable_monitoring", "ssr_mode", "pwa"), False)
    around = {"lifespan": partial(upkeep, app), "middleware": [guard]}
    served = {"max_file_size": size, "allowed_paths": [], "mcp_server": True, "app_kwargs": around}
    return app.launch(**{**look, **off, **served, **more})


def main(arguments: Sequence[str] | None = None, app: gr.Blocks | None = None) -> None:
    """Build the page unless it is given, and serve it until somebody stops it."""
    chosen = options(sys.argv[1:] if arguments is None else arguments)
    # Containers stop programs with this signal; the end must clean up as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    page = app or create(chosen.checkpoint)
    with suppress(KeyboardInterrupt):  # Gradio takes it once it waits, and not while it starts
        launch(page, chosen.login, server_name=chosen.host, server_port=chosen.port, share=chosen.share or None)


@asynccontextmanager
async def upkeep(page: Any, _: Any) -> AsyncIterator[None]:
    """Load what the first comparison would wait for; forget what is over every few seconds while the server runs."""

    async def forever() -> None:
        while True:
            await asyncio.sleep(ROUND)
            if forget(page):
                await asyncio.to_thread(give_back_memory)
            await asyncio.to_thread(page.bcx_sessions.uploads.sweep, UNCLAIMED)

    tasks = [asyncio.create_task(forever()), asyncio.create_task(asyncio.to_thread(import_module, EXPLAINING))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


def forget(page: Any) -> int:
    """Drop what Gradio keeps of pages that were closed, and of sessions without one after `UNFETCHED`; how many.

    It keeps the values of every component for each of the last 10,000 sessions, the answers that 2,000 of them did not
    fetch, and the path of every file that it ever received or showed. To be called in the server's own thread.
    """
    states, queue, sessions = page.state_holder, page._queue, page.bcx_sessions
    busy = {event.session_hash for event in queue.event_ids_to_events.values()}
    closed = sessions.take_closed()
    since = datetime.datetime.now() - datetime.timedelta(seconds=UNFETCHED)
    held = (states.session_data, queue.pending_messages_per_session, queue.pending_event_ids_session)
    forgotten = 0
    for name in {name for kept in held for name in kept}:
        over = name in closed or states.time_last_used.get(name, since) <= since
        if over and name not in busy and not sessions.is_open(name):
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
    if GLIBC is not None:
        GLIBC.mallopt(-8, 2)  # M_ARENA_MAX


def give_back_memory() -> None:
    """Return to the system what the allocator keeps of visitors that are gone."""
    if GLIBC is not None:
        GLIBC.malloc_trim(0)
