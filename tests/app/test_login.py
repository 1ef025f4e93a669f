"""The login: nothing is answered without it, and with it everything works as without one."""

import asyncio
import base64
import re

import httpx
import pytest

from bcx.app import server
from bcx.app.login import VARIABLE, Login, read_login
from bcx.errors import ConfigError
from tests.app.conftest import opened, start
from tests.app.test_hostile import routes_of

ADA = ("ada", "correct horse: battery")
LINES = "# who may\n\nada:correct horse: battery\r\nzoë:pässwörter\n"


@pytest.fixture(scope="module")
def locked(tiny, examples, tmp_path_factory):
    yield from start(tiny, tmp_path_factory.mktemp("locked"), examples, Login(LINES, "the test"))


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


WRONG = [
    {},
    basic("ada:correct horse"),
    basic("ada:correct horse: batterY"),
    basic("eve:correct horse: battery"),
    basic(":"),
    basic("# who may:"),
    {"authorization": basic(":".join(ADA))["authorization"].replace("Basic", "Bearer")},
    {"authorization": "Basic"},
    {"authorization": "Basic ada:correct horse: battery"},
    {"authorization": "Basic \xff\xfe"},
    {"cookie": "access-token=1; access-token-unsecure=1; bcx-page=1"},
    # Another site's script, in the browser of somebody who is logged in.
    {**basic(":".join(ADA)), "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
]


def test_no_address_answers_without_the_login(locked):
    """Every route of the server, what Gradio adds included, files on disk, MCP, and addresses that are none."""
    routes = [*routes_of(locked.app), ("/gradio_api/mcp/", ["GET", "POST"]), ("/none", ["GET"]), ("//", ["GET"])]
    kinds = {
        (re.sub(r"{[^}]*}", "x", path).lstrip("/"), method)
        for path, methods in routes
        for method in {*methods, "HEAD", "POST", "OPTIONS"}
    }
    assert len(kinds) > 150
    with httpx.Client(base_url=locked.url, timeout=30) as client:
        for path, method in kinds:
            answer = client.request(method, f"{locked.url}{path}")
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert method == "HEAD" or "Log in" in answer.json()["error"]


@pytest.mark.parametrize("headers", WRONG, ids=str)
@pytest.mark.parametrize("path", ["", "config", "gradio_api/startup-events", "gradio_api/heartbeat/x"])
def test_what_is_no_login_is_refused(locked, headers, path):
    headers = {name: value.encode("latin-1") for name, value in headers.items()}
    assert httpx.get(f"{locked.url}{path}", headers=headers).status_code == 401


@pytest.mark.parametrize("who", [ADA, ("zoë", "pässwörter")])
def test_whoever_has_a_login_is_let_in(locked, who):
    auth = httpx.BasicAuth(*(part.encode() for part in who))
    assert "bcx" in httpx.get(locked.url, auth=auth).text
    assert httpx.get(f"{locked.url}config", auth=auth).json()["dependencies"]
    # A link on another site may lead to the page.
    leads = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert httpx.get(locked.url, auth=auth, headers=leads).status_code == 200


def test_the_clients_that_are_documented_work_with_a_login(locked, scans):
    from gradio_client import Client, handle_file
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    headers = basic(":".join(ADA))
    client = Client(locked.url, headers=headers, verbose=False)
    answer = client.predict(handle_file(scans["grey.png"]), api_name="/classify")
    assert answer["name"] == "grey.png"

    async def tools() -> list[str]:
        async with (
            streamablehttp_client(f"{locked.url}gradio_api/mcp/", headers=headers) as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return [tool.name for tool in (await session.list_tools()).tools]

    assert len(asyncio.run(tools())) == 3
    with pytest.raises(Exception, match="login"):
        Client(locked.url, verbose=False)


@pytest.mark.slow
def test_the_page_works_in_a_browser_that_has_logged_in(locked, browser, scans, until):
    logged_in = browser.new_context(http_credentials={"username": ADA[0], "password": ADA[1]})
    for page in opened(logged_in, locked.url):
        page.set_input_files("#classify-upload input[type=file]", scans["grey.png"])
        page.wait_for_selector("#classify-answer [data-label]")
        page.wait_for_selector("#classify-slider img")
        pictures = page.locator("#classify-slider img").evaluate_all("all => all.map(one => one.naturalWidth)")
        assert pictures == [140, 140]
        assert locked.files()
    assert until(lambda: not locked.files())


@pytest.mark.parametrize("text", ["", "# nobody\n", "ada", "ada:short", ":long enough", "ada:long enough\nrest"])
def test_what_is_no_login_file_says_so_without_showing_it(tmp_path, text):
    file = tmp_path / "login"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_login(str(file))
    assert "long enough" not in str(error.value)
    assert VARIABLE in error.value.remedy


def test_where_logins_are_read(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_login(None) is None
    with pytest.raises(ConfigError, match="cannot be read"):
        read_login(str(tmp_path / "none"))
    monkeypatch.setenv(VARIABLE, "ada:from the environment")
    assert read_login(None).lets_in({b"authorization": basic("ada:from the environment")["authorization"].encode()})
    # Set and empty is a mistake, and never means that everybody may come in.
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(ConfigError):
        read_login(None)


def test_the_option_takes_a_file_and_ends_in_words(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "login").write_text(LINES)
    assert isinstance(server.options(["--login", str(tmp_path / "login")]).login, Login)
    with pytest.raises(SystemExit) as stopped:
        server.options(["--login", str(tmp_path / "none")])
    assert stopped.value.code == 2
    assert "cannot be read" in capsys.readouterr().err
    monkeypatch.setenv(VARIABLE, "ada:short")
    with pytest.raises(SystemExit) as stopped:
        server.options([])
    said = capsys.readouterr().err
    assert (stopped.value.code, "no login" in said, "short" in said) == (2, True, False)
