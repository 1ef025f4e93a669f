"""What is checked before Gradio sees a request, against a running server."""

import threading
import time

import httpx
import pytest

from bcx.app import middleware, privacy
from tests.app.conftest import start
from tests.app.test_hostile import ask, body_of, calls_of, page_of, upload_call


@pytest.fixture
def api(server):
    return f"{server.url}gradio_api"


@pytest.fixture
def calls(server):
    return calls_of(httpx.get(f"{server.url}config").json())


def test_the_hash_of_an_open_page_is_worth_nothing_without_its_cookie(server, api, calls, scans):
    client, stranger = httpx.Client(timeout=30), httpx.Client(timeout=30)
    client.get(server.url)
    stranger.get(server.url)
    upload = upload_call(calls)
    repaint = next(call for call in calls if call[0]["targets"][0][1:] == ["input"] and len(call[0]["inputs"]) == 3)
    with page_of(client, api, "mine"):
        assert ask(client, api, body_of(upload, client, api, scans["grey.png"], "mine")) == ""
        files = set(server.files())
        for other in (stranger, httpx.Client(timeout=30)):
            body = body_of(repaint, other, api, scans["grey.png"], "mine")
            assert "no such page" in ask(other, api, body)
            assert other.post(f"{api}/queue/join", json=body).status_code == 404
            assert other.post(f"{api}/cancel", json={**body, "event_id": "x"}).status_code == 404
            assert other.get(f"{api}/queue/data", params={"session_hash": "mine"}).status_code == 404
            assert other.get(f"{api}/heartbeat/mine").status_code == 404
        assert files <= set(server.files())
        assert "png" in client.post(f"{api}/run/x", json=body_of(repaint, client, api, scans["grey.png"], "mine")).text


def test_the_cookie_is_the_browsers_alone(server):
    cookie = httpx.get(server.url).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert cookie != httpx.get(server.url).headers["set-cookie"]
    assert "Secure" not in cookie
    assert "Secure" in httpx.get(server.url, headers={"x-forwarded-proto": "https"}).headers["set-cookie"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"nothing", b"[" * 100_000, b'{"data": 5}', b'{"data": [[[[[[[[[[1]]]]]]]]]]}']
)
@pytest.mark.parametrize("route", ["queue/join", "run/classify", "call/classify", "call/v2/classify", "cancel"])
def test_a_body_that_is_no_call_is_refused_in_words(api, route, body, capfd):
    answer = httpx.post(f"{api}/{route}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) or (answer.status_code == 200 and route.startswith("call/v2"))
    assert answer.json().get("error") or answer.json().get("event_id")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_body_has_a_largest_size(api, monkeypatch):
    monkeypatch.setattr(middleware, "MOST_BODY", 1000)
    assert httpx.post(f"{api}/queue/join", json={"data": ["x" * 2000]}).status_code == 413


class Endless:
    """A classifier whose stream never ends by itself."""

    def __init__(self, inner):
        self.inner, self.closed, self.running = inner, threading.Event(), threading.Event()

    def stream(self, sources):
        answer = next(iter(self.inner.stream(sources[:1])))
        try:
            for _ in sources:
                yield answer
                self.running.set()
                time.sleep(0.05)
        finally:
            self.closed.set()

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.mark.slow
def test_a_batch_outlasts_made_up_sessions_and_ends_within_two_seconds_of_its_page(
    tiny, examples, scans, tmp_path, until, monkeypatch
):
    monkeypatch.setattr(privacy, "MOST_SESSIONS", 10)
    endless = Endless(tiny)
    for served in start(endless, tmp_path / "temp", examples):
        api, client = f"{served.url}gradio_api", httpx.Client(timeout=30)
        call, inputs = next(call for call in calls_of(client.get(f"{served.url}config").json()) if many(call))
        with page_of(client, api, "closing"):
            content = [("files", (f"{place}.png", scans["grey.png"].read_bytes())) for place in range(400)]
            paths = client.post(f"{api}/upload", files=content).json()
            data = [[{"path": path} for path in paths], *(part["props"].get("value") for part in inputs[1:])]
            body = {"data": data, "fn_index": call["id"], "session_hash": "closing"}
            assert client.post(f"{api}/queue/join", json=body).status_code == 200
            assert endless.running.wait(20)
            assert len(served.files()) >= 400
            stranger = httpx.Client(timeout=30)
            for number in range(3 * privacy.MOST_SESSIONS):
                unknown = {**body, "data": [[{"path": "none.png"}], *data[1:]], "session_hash": f"made-up-{number}"}
                assert "no uploaded file" in ask(stranger, api, unknown)
            assert not endless.closed.is_set()
            assert len(served.files()) >= 400
        begun = time.monotonic()
        assert until(lambda served=served: endless.closed.is_set() and not served.files(), 10)
        assert time.monotonic() - begun < 2


def many(call: tuple[dict, list[dict]]) -> bool:
    return call[1][:1] != [] and call[1][0]["type"] == "file" and call[1][0]["props"].get("file_count") == "multiple"


@pytest.mark.parametrize("path", ["", "config", "none", "gradio_api/none", "gradio_api/info", "assets/none.js"])
def test_browsers_are_told_what_the_page_may_do(server, path):
    told = httpx.get(f"{server.url}{path}").headers
    for name, value in middleware.HEADERS.items():
        assert told.get_list(name) == [value]
    assert (told.get("cache-control") == "no-store") == path.startswith("gradio_api/")
    # A Space is shown in a frame of the Hub's page.
    assert "x-frame-options" not in told
    assert "frame-ancestors 'self' https://huggingface.co" in told["content-security-policy"]
