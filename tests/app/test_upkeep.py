"""What the page forgets beside its calls."""

import datetime
import subprocess
import sys

import httpx
import pytest

from bcx.app import server as running
from tests.app.test_hostile import ask, body_of, calls_of, page_of, upload_call


def test_what_gradio_keeps_of_closed_pages_goes_and_open_ones_keep_it(server, scans, until):
    api, client = f"{server.url}gradio_api", httpx.Client(timeout=30)
    call = upload_call(calls_of(client.get(f"{server.url}config").json()))
    blocks = server.app.get_blocks()
    held = blocks.state_holder
    with page_of(client, api, "open"):
        for session in ("open", "gone", "a-moment-ago"):
            assert ask(client, api, body_of(call, client, api, scans["grey.png"], session)) == ""
        held.time_last_used["gone"] -= datetime.timedelta(seconds=61)
        assert {"open", "gone", "a-moment-ago"} <= set(held.session_data)
        assert running.forget(blocks) == 1
        assert set(held.session_data) & {"open", "gone", "a-moment-ago"} == {"open", "a-moment-ago"}
        assert not any(blocks.temp_file_sets)
        assert running.forget(blocks) == 0
    # A page that was closed needs no such time.
    assert until(lambda: running.forget(blocks) == 1)
    assert set(held.session_data) & {"open", "gone", "a-moment-ago"} == {"a-moment-ago"}


def test_a_first_comparison_need_not_wait_for_its_library(server, until):
    assert until(lambda: running.EXPLAINING in sys.modules, 60)


@pytest.mark.skipif(running.GLIBC is None, reason="another allocator")
def test_threads_share_two_arenas_and_what_they_free_goes_back():
    """In a process of its own, counted by glibc's own report."""
    program = """
import ctypes, threading
from bcx.app import server as running
running.share_arenas()
libc, kept, barrier = ctypes.CDLL(None), [], threading.Barrier(8)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
def fill():
    barrier.wait()
    kept.extend(libc.malloc(50_000) for _ in range(400))
threads = [threading.Thread(target=fill) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
for place in kept: ctypes.memset(ctypes.c_void_p(place), 1, 50_000)
before = resident()
for place in kept: libc.free(ctypes.c_void_p(place))
running.give_back_memory()
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
print("freed", before - resident())
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.count("<heap nr=") == 2
    assert float(said.split("freed ")[1]) > 120
