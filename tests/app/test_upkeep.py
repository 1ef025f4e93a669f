"""What the page forgets beside its calls."""

from __future__ import annotations

import datetime

import httpx

from bcx.app import upkeep
from tests.app.test_hostile import ask, body_of, calls_of, page_of


def test_what_gradio_keeps_of_closed_pages_goes_and_open_ones_keep_it(server, scans, until):
    api, client = f"{server.url}gradio_api", httpx.Client(timeout=30)
    call = calls_of(client.get(f"{server.url}config").json())[0]
    blocks = server.app.get_blocks()
    held = blocks.state_holder
    with page_of(client, api, "open"):
        for session in ("open", "gone", "a-moment-ago"):
            assert ask(client, api, body_of(call, client, api, scans["grey.png"], session)) == ""
        held.time_last_used["gone"] -= datetime.timedelta(seconds=61)
        assert {"open", "gone", "a-moment-ago"} <= set(held.session_data)
        assert upkeep.forget(blocks, 60) == 1
        assert set(held.session_data) & {"open", "gone", "a-moment-ago"} == {"open", "a-moment-ago"}
        assert not any(blocks.temp_file_sets)
        assert upkeep.forget(blocks, 60) == 0
    # A page that was closed needs no such time.
    assert until(lambda: upkeep.forget(blocks, 60) == 1)
    assert set(held.session_data) & {"open", "gone", "a-moment-ago"} == {"a-moment-ago"}
    upkeep.give_back_memory()
