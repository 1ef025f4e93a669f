"""Every call and route of the built page with hostile values: nothing outside is touched, answers are in words."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from tests.app.conftest import start
from tests.app.test_download import OUTSIDE, connect

#: What Python tells an audit hook when a file or folder is opened, listed, moved or deleted.
FILE_EVENTS = {
    *("open", "os.listdir", "os.scandir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "os.mkdir", "shutil.rmtree", "shutil.copyfile", "shutil.move"),
}
FILES = ("file", "image", "uploadbutton")


class Watch:
    """An audit hook over one folder and over connections; hooks stay for good, so it can be switched off."""

    def __init__(self) -> None:
        self.folder = ""
        self.touched: list[tuple[str, str]] = []
        self.connected: list[object] = []
        sys.addaudithook(self.note)

    def note(self, event: str, arguments: tuple) -> None:
        if not self.folder:
            return
        if event == "socket.connect":
            self.connected.append(arguments[1])
        elif event in FILE_EVENTS:
            for argument in arguments[:2]:
                if isinstance(argument, (str, bytes, os.PathLike)):
                    path = os.path.abspath(os.fsdecode(argument))
                    if path.startswith(self.folder):
                        self.touched.append((event, path))

    @contextmanager
    def over(self, folder: Path) -> Iterator[None]:
        self.folder, self.touched, self.connected = str(folder), [], []
        try:
            yield
        finally:
            self.folder = ""


@pytest.fixture(scope="session")
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="module")
def served(tiny, tiny_checkpoint, cells_checkpoint, examples, tmp_path_factory):
    """The page with several models, so that every tab and the choice of model are wired."""
    patch = pytest.MonkeyPatch()
    patch.setattr("bcx.app.wiring.list_checkpoints", lambda: {"cells": cells_checkpoint})
    yield from start(tiny, tmp_path_factory.mktemp("hostile"), examples)
    patch.undo()


@pytest.fixture(scope="module")
def canary(tmp_path_factory, scans) -> Path:
    """A folder beside the server with pictures that it could read, links to them, and times of last access."""
    folder = tmp_path_factory.mktemp("canary")
    (folder / "inner").mkdir()
    for name in ("scan.png", "inner/scan.png"):
        (folder / name).write_bytes(scans["grey.png"].read_bytes())
        os.utime(folder / name, (1_000_000_000, 1_100_000_000))
    (folder / "link.png").symlink_to(folder / "scan.png")
    (folder / "folder-link").symlink_to(folder / "inner")
    os.mkfifo(folder / "pipe")
    return folder


def strangers(watch: Watch, url: str) -> set[object]:
    """Where connections went, but to the page itself, to whoever is outside, and to this process's own sockets."""
    page = ("127.0.0.1", httpx.URL(url).port)
    return {to for to in watch.connected if isinstance(to, tuple) and to[:2] != page and to[0] != OUTSIDE}


def state_of(folder: Path) -> dict[str, tuple]:
    return {
        str(path): (path.lstat().st_ino, path.lstat().st_size, path.lstat().st_atime_ns, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink()
    }


class Network(NamedTuple):
    """Two servers: one within the page's own network, and what it was asked; one outside, which leads on anywhere."""

    inside: str
    asked: list[object]
    outside: str


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    patch = pytest.MonkeyPatch()
    outside, within = connect(patch)
    yield Network(f"http://127.0.0.1:{within.server_port}", within.asked, f"http://outside.test:{outside.server_port}")
    patch.undo()
    for server in (outside, within):
        server.shutdown()
        server.server_close()
    assert outside.asked, "nobody followed a redirect"


def hostile(canary: Path, network: Network, others: Path, for_a_file: bool) -> list[object]:
    """What stands in a value's place; paths alone, as files, in lists, and with Gradio's own mark.

    Where no file is asked for, a few of each kind of file stand for all.
    """
    relative = os.path.relpath(canary / "scan.png")
    up = others.parent / ".." / os.path.relpath(canary / "scan.png", others.parent.parent)
    paths = [
        *(canary / name for name in ("scan.png", "link.png", "inner", "folder-link/scan.png", "pipe", "none.png")),
        *(relative, up, f"file://{canary}/scan.png", others, others.parent, "/proc/self/environ", "/dev/zero", "/", ""),
    ]
    inside, outside, port = network.inside, network.outside, network.inside.rpartition(":")[2]
    addresses = [
        *(f"{inside}/a.png", f"http://localhost:{port}/b.png", f"http://[::ffff:127.0.0.1]:{port}/c.png"),
        *(f"http://within.test:{port}/d.png", f"http://both.test:{port}/e.png", f"http://x@127.0.0.1:{port}/f.png"),
        *(f"{outside}/to/{inside}/g.png", f"{outside}/to/http://within.test:{port}/h.png", f"{outside}/to/file:///etc"),
        *(
            "http://169.254.169.254/latest",
            f"http://0x7f000001:{port}/",
            "ftp://127.0.0.1/x",
            "data:image/png;base64,!!!",
        ),
    ]
    named = [*map(str, paths), *addresses]
    mark = {"_type": "gradio.FileData"}
    some = named if for_a_file else [named[at] for at in (0, 3, 8, 9, 11, len(paths))]
    files = [{"path": name} for name in some] + [{"path": name, "meta": mark} for name in some]
    files += [{"url": inside, "meta": mark}, {"path": None, "url": str(canary / "scan.png")}, {"orig_name": "x"}]
    odd = [None, True, -1, 10**30, 1e308, float("nan"), float("inf"), "", "0", "-1", "9" * 40, "\0", "\ud800", [], {}]
    odd += [[[]], [None], {"a": {"b": []}}, "x" * 100_000, "../" * 50, "malignant", [{}] * 3, deep(200)]
    return [*odd, *named, *files, *([file] for file in files[:6]), [str(canary / "scan.png")]]


def deep(levels: int) -> object:
    return [] if levels == 0 else [deep(levels - 1)]


def said(response: httpx.Response) -> str:
    """Return the error's words, "" for an answer; anything else fails."""
    assert response.status_code in (200, 400, 404, 413, 500), response.text
    body = response.json()
    if response.status_code == 200:
        assert "data" in body or "event_id" in body, body
        return ""
    words = body.get("error") or body.get("detail")
    assert isinstance(words, str), body
    assert len(words) > 10, body
    assert "Traceback" not in words
    assert "on the server" not in words, f"an error without a type: {body}"
    return words


def upload(client: httpx.Client, api: str, path: Path) -> dict:
    sent = client.post(f"{api}/upload", files={"files": (path.name, path.read_bytes())})
    return {"path": sent.json()[0], "orig_name": path.name}


@contextmanager
def page_of(client: httpx.Client, api: str, session: str) -> Iterator[None]:
    with client.stream("GET", f"{api}/heartbeat/{session}"):
        yield


def calls_of(config: dict) -> list[tuple[dict, list[dict]]]:
    parts = {part["id"]: part for part in config["components"]}
    calls = [(call, [parts[place] for place in call["inputs"]]) for call in config["dependencies"]]
    return [(call, inputs) for call, inputs in calls if call["backend_fn"]]


def upload_call(calls: list[tuple[dict, list[dict]]]) -> tuple[dict, list[dict]]:
    """The first that takes a file: Classify's."""
    return next(call for call in calls if call[1] and call[1][0]["type"] in FILES)


def usual(client: httpx.Client, api: str, part: dict, scan: Path) -> object:
    if part["type"] not in FILES:
        return part["props"].get("value")
    file = upload(client, api, scan)
    return [file] if part["props"].get("file_count", "single") != "single" else file


@pytest.mark.slow
def test_every_call_with_hostile_values_in_every_place(served, canary, network, watch, scans, capfd, caplog):
    api = f"{served.url}gradio_api"
    client = httpx.Client(timeout=60)
    calls = calls_of(client.get(f"{served.url}config").json())
    assert len(calls) > 15
    with page_of(client, api, "victim"):
        client.post(f"{api}/run/x", json=body_of(upload_call(calls), client, api, scans["grey.png"], "victim"))
        others = next(path for path in served.files() if path.suffix == ".png" and "sessions" in path.parts)
        kept, before, answered, refused = set(served.files()), state_of(canary), 0, 0
        with watch.over(canary), page_of(client, api, "attacker"):
            for call, inputs in calls:
                for place in range(len(inputs)):
                    for value in hostile(canary, network, others, not place or inputs[place]["type"] in FILES):
                        others_of = (part for at, part in enumerate(inputs) if at != place)
                        data = [usual(client, api, part, scans["grey.png"]) for part in others_of]
                        data.insert(place, value)
                        words = ask(client, api, {"data": data, "fn_index": call["id"], "session_hash": "attacker"})
                        answered, refused = answered + (not words), refused + bool(words)
                for event in ({}, {"pick": []}, {"pick": "-1"}, {"pick": 1e300}, {"page": "9" * 30}, {"page": {}}, 5):
                    data = [usual(client, api, part, scans["grey.png"]) for part in inputs]
                    body = {"data": data, "fn_index": call["id"], "session_hash": "attacker", "event_data": event}
                    ask(client, api, {**body, "trigger_id": 10**9})
        assert watch.touched == []
        assert strangers(watch, served.url) == set()
        assert network.asked == []
        assert state_of(canary) == before
        assert kept <= set(served.files()), "a file of another session is gone"
    assert refused > 500
    assert "Traceback" not in (shown := "".join(capfd.readouterr())), shown[-3000:]
    assert [record.message for record in caplog.records if record.name.startswith("bcx")] == []


#: What a client may call its upload.
NAMES = [
    *(
        "../../scan.png",
        "/scan.png",
        "..\\..\\scan.png",
        "a/../../../scan.png",
        "..",
        ".",
        "/",
        "C:\\scan.png",
        "~/scan.png",
    ),
    *(
        "CANARY/scan.png",
        "CANARY/link.png",
        "file://CANARY/scan.png",
        "a\0b.png",
        "x" * 5000,
        "\u202egnp.nacs",
        "%2e%2e%2fx",
    ),
]


def test_uploads_with_hostile_names_stay_where_uploads_lie(served, canary, watch, scans, capfd):
    client, before = httpx.Client(timeout=60), state_of(canary)
    content, taken = scans["grey.png"].read_bytes(), 0
    with watch.over(canary):
        for name in (name.replace("CANARY", str(canary)) for name in NAMES):
            sent = client.post(
                f"{served.url}gradio_api/upload", params={"upload_id": name}, files={"files": (name, content)}
            )
            if sent.status_code != 200:
                assert sent.status_code in (400, 413, 422), (name, sent.text)
                continue
            (path,) = sent.json()
            assert Path(path).read_bytes() == content
            assert Path(path).resolve().is_relative_to(served.temp.resolve()), name
            said = client.post(
                f"{served.url}gradio_api/run/classify", json={"data": [{"path": path, "orig_name": name}]}
            )
            assert said.status_code == 200, said.text
            assert not {"..", "\0", str(canary)} & set(said.json()["data"][0]["name"].split("/"))
            assert not os.path.lexists(path)
            taken += 1
    assert taken >= 5
    assert watch.touched == []
    assert state_of(canary) == before
    assert "Traceback" not in "".join(capfd.readouterr())


def body_of(call: tuple[dict, list[dict]], client: httpx.Client, api: str, scan: Path, session: str) -> dict:
    data = [usual(client, api, part, scan) for part in call[1]]
    return {"data": data, "fn_index": call[0]["id"], "session_hash": session}


def ask(client: httpx.Client, api: str, body: dict) -> str:
    text = json.dumps(body)  # Python's own: with NaN and lone surrogates
    return said(client.post(f"{api}/run/x", content=text, headers={"content-type": "application/json"}))


def routes_of(part: object, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every (path, methods) of an application or router, with those of the routers within."""
    for route in part.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from routes_of(inner, prefix + route.include_context.prefix)
        else:
            yield prefix + route.path, sorted(getattr(route, "methods", None) or ["GET"])


@pytest.mark.slow
def test_every_route_of_the_server_keeps_to_itself(served, canary, network, watch, scans, capfd):
    """Routes that Gradio adds are in this list by themselves; the page of the victim has a browser's cookie."""
    api = f"{served.url}gradio_api"
    client, stranger = httpx.Client(timeout=30), httpx.Client(timeout=30)
    client.get(served.url)
    before, secret = state_of(canary), scans["grey.png"].read_bytes()[:60]
    others = set(served.files())
    names = [str(canary / "scan.png"), f"{network.inside}/x.png", "victim"]
    call = upload_call(calls_of(client.get(f"{served.url}config").json()))
    with page_of(client, api, "victim"), watch.over(canary):
        assert ask(client, api, body_of(call, client, api, scans["grey.png"], "victim")) == ""
        shown = set(served.files()) - others
        assert shown
        routes = [*routes_of(served.app)]
        assert len(routes) > 50
        for path, methods in routes:
            for method in methods:
                for name in names:
                    address = served.url + re.sub(r"{[^}]*}", lambda _, name=name: name, path).removeprefix("/")
                    query = {"session_hash": "victim", "upload_id": name, "deep_link": name, "url": name}
                    sent = {"session_hash": "victim", "data": [name], "component_id": 0, "fn_name": "ls"}
                    body = {} if method in ("GET", "HEAD") else {"json": {**sent, "fn_index": 0, "event_id": name}}
                    with stranger.stream(method, address, params=query, **body) as answer:
                        assert answer.status_code < 500, (method, address)
                        first = next(answer.iter_bytes(), b"")
                        assert secret not in first, (method, address)
                        assert b"victim" not in first or answer.status_code >= 400, (method, address, first[:300])
        assert shown <= set(served.files())
    assert watch.touched == []
    assert strangers(watch, served.url) == set()
    assert network.asked == []
    assert state_of(canary) == before
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_the_mcp_tools_with_hostile_values(served, canary, network, watch, scans):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    def values_of(name: str) -> list[object]:
        values = hostile(canary, network, canary / "none.png", name.startswith("scan"))
        return [value for value in values if "\ud800" not in repr(value) and "\\ud800" not in repr(value)]

    before, kept = state_of(canary), set(served.files())

    async def ask_all() -> list[str]:
        async with (
            streamablehttp_client(f"{served.url}gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            assert len(tools) == 3
            heard = []
            for tool in tools:
                for name in tool.inputSchema["properties"]:
                    for value in values_of(name):
                        result = await session.call_tool(tool.name, {name: value})
                        heard.append((result.isError, result.content[0].text))
            return heard

    with watch.over(canary):
        heard = asyncio.run(ask_all())
    assert all(words and "Traceback" not in words and "on the server" not in words for _, words in heard)
    assert sum(wrong for wrong, _ in heard) > 100
    assert [words for wrong, words in heard if not wrong and "probabilities" in words] == []
    assert watch.touched == []
    assert strangers(watch, served.url) == set()
    assert network.asked == []
    assert state_of(canary) == before
    assert set(served.files()) <= kept
