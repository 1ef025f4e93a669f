"""The endpoints, called as a stranger would: with gradio_client and plain HTTP, against a running server."""

import base64
import io
import json
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from bcx.explain.methods import explain
from bcx.explain.sheet import overlay


@pytest.fixture(scope="module")
def client(server):
    client = Client(server.url, verbose=False, analytics_enabled=False)
    yield client
    client.close()


@pytest.mark.parametrize("name", ["grey.png", "photo.jpg", "deep.tiff"])
def test_classify_gives_the_numbers_that_python_gives(client, scans, tiny, name):
    answer = client.predict(handle_file(str(scans[name])), api_name="/classify")
    direct = tiny.predict(scans[name])
    assert answer["probabilities"] == pytest.approx(direct.probabilities, abs=1e-6)
    assert (answer["label"], answer["decision"], answer["notes"]) == (
        direct.label,
        direct.decision,
        [*direct.scan.notes],
    )
    assert set(answer) == set(direct.to_dict())
    assert answer["name"] == name


def test_explain_gives_the_map_and_its_checks(client, scans, tiny):
    said = client.predict(handle_file(str(scans["grey.png"])), "benign", "grad-cam", True, api_name="/explain")
    expected = explain(tiny, scans["grey.png"], "benign", "grad-cam")
    assert {**said, "seconds": 0} == said | expected.to_dict() | {"seconds": 0}
    assert said["checks"]["verdict"]
    assert said["probabilities"] == pytest.approx(expected.prediction.probabilities, abs=1e-6)
    picture = Image.open(io.BytesIO(base64.b64decode(said["overlay"].partition(",")[2])))
    assert np.array_equal(np.asarray(picture), overlay(expected))


def test_explain_defaults_to_the_exact_map_of_the_label(client, scans, tiny):
    said = client.predict(handle_file(str(scans["grey.png"])), api_name="/explain")
    assert (said["method"], said["target"]) == ("exact", tiny.predict(scans["grey.png"]).label)
    assert (said["checks"], said["lesion"]) == (None, None)  # a model without a lesion map


@pytest.mark.parametrize("sent", [("cyst", "exact", False), ("benign", "score-cam", False), ("benign", "exact", "yes")])
def test_explain_refuses_what_it_does_not_know(client, scans, sent):
    with pytest.raises(AppError, match="Expected"):
        client.predict(handle_file(str(scans["grey.png"])), *sent, api_name="/explain")


def test_batch_keeps_the_order_and_reports_the_broken_file_in_its_place(client, scans, tiny):
    names = ["photo.jpg", "broken.png", "grey.png"]
    answers = client.predict([handle_file(str(scans[name])) for name in names], api_name="/batch")
    assert [answer["name"] for answer in answers] == names
    assert set(answers[1]["error"]) == {"kind", "found", "expected", "remedy"}
    assert "probabilities" not in answers[1]
    for place in (0, 2):
        expected = tiny.predict(scans[names[place]]).probabilities
        assert answers[place]["probabilities"] == pytest.approx(expected, abs=1e-5)


def test_a_broken_file_gives_an_error_that_says_what_to_do(client, scans):
    with pytest.raises(AppError, match=r"broken\.png.*Expected"):
        client.predict(handle_file(str(scans["broken.png"])), api_name="/classify")


def test_only_the_documented_endpoints_are_public(client):
    documented = client.view_api(return_format="dict", print_info=False)
    assert set(documented["named_endpoints"]) == {"/classify", "/explain", "/batch"}
    assert documented["unnamed_endpoints"] == {}


def test_mcp_offers_them_as_tools_with_words_for_a_model(server):
    tools = httpx.get(f"{server.url}gradio_api/mcp/schema", timeout=60).json()
    assert len(tools) == 3
    for tool in tools:
        assert "never for diagnosis" in tool["description"]
        assert f"{server.url}gradio_api/upload" in tool["description"]
        assert "Gradio" not in json.dumps(tool["inputSchema"]["properties"]).replace("gradio.FileData", "")
    assert {name for tool in tools for name in tool["inputSchema"]["properties"]} == {
        *("scan", "scans", "overlay", "box"),
        *("target", "method", "check"),
    }
    assert tools[0]["inputSchema"]["required"] == ["scan"]


def by_mcp(server, *calls):
    """Call tools with the official client, which also checks what it sends against the tool's schema."""
    import asyncio

    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def ask():
        async with (
            streamablehttp_client(f"{server.url}gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            return [await session.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(ask())


def as_address(path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def uploaded(server, path) -> str:
    with path.open("rb") as file:
        return httpx.post(f"{server.url}gradio_api/upload", files={"files": file}, timeout=60).json()[0]


def test_mcp_tools_answer_in_json_with_the_same_numbers(server, scans, tiny):
    scan = as_address(scans["grey.png"])
    one, many = by_mcp(server, ("classify", {"scan": scan}), ("batch", {"scans": [scan, scan]}))
    assert json.loads(one.content[0].text) == one.structuredContent
    assert {"answers": json.loads(many.content[0].text)} == many.structuredContent
    expected = pytest.approx(tiny.predict(scans["grey.png"]).probabilities, abs=1e-5)
    answers = [one.structuredContent, *many.structuredContent["answers"]]
    assert [answer["probabilities"] for answer in answers] == [expected] * 3


def test_mcp_takes_an_upload_of_a_page_on_this_machine_once(server, scans):
    path, other = (uploaded(server, scans["grey.png"]) for _ in range(2))
    address = f"{server.url.replace('127.0.0.1', 'localhost')}gradio_api/file={other}"
    first, by_address, again = by_mcp(server, *(("classify", {"scan": sent}) for sent in (path, address, path)))
    assert first.structuredContent["name"] == by_address.structuredContent["name"] == "grey.png"
    assert again.isError
    assert "used already" in again.content[0].text


def test_mcp_says_why_a_file_was_not_read(server, scans):
    broken = as_address(scans["broken.png"])
    calls = {"holds text": broken, "private network": "http://localhost:1/x.png", "no address: 'x.png'": "x.png"}
    answers = by_mcp(server, *(("classify", {"scan": sent}) for sent in calls.values()))
    for words, answer in zip(calls, answers, strict=True):
        assert answer.isError
        assert words in answer.content[0].text
        assert "Expected" in answer.content[0].text


def test_one_bad_text_in_a_batch_does_not_stop_the_others(server, scans, tiny):
    good = as_address(scans["grey.png"])
    (many,) = by_mcp(server, ("batch", {"scans": [good, "x.png", "http://localhost:1/x.png", good]}))
    first, text, address, last = many.structuredContent["answers"]
    expected = pytest.approx(tiny.predict(scans["grey.png"]).probabilities, abs=1e-5)
    assert [answer["probabilities"] for answer in (first, last)] == [expected] * 2
    assert "no address" in text["error"]["found"]
    assert "private network" in address["error"]["found"]
    assert all(answer["error"]["remedy"] for answer in (text, address))


def test_mcp_shows_the_overlay_as_a_picture_beside_the_text(server, scans):
    (answer,) = by_mcp(server, ("classify", {"scan": as_address(scans["grey.png"]), "overlay": True}))
    text, picture = answer.content
    assert "overlay" not in json.loads(text.text)
    assert (picture.type, picture.mimeType) == ("image", "image/png")
    assert Image.open(io.BytesIO(base64.b64decode(picture.data))).size == (140, 110)


def test_the_overlay_comes_where_it_is_asked_for(client, server, scans, tiny):
    file = handle_file(str(scans["grey.png"]))
    assert "overlay" not in client.predict(file, api_name="/classify")
    address = client.predict(file, True, api_name="/classify")["overlay"]
    picture = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    assert np.array_equal(picture, tiny.predict(scans["grey.png"]).overlay())
    for data, words in (([True], "complete"), ([], "complete"), (["yes"], "error")):
        call = f"{server.url}gradio_api/call/classify"
        sent = {"data": [as_address(scans["grey.png"]), *data]}
        event = httpx.post(call, json=sent, timeout=60).json()["event_id"]
        assert f"event: {words}" in httpx.get(f"{call}/{event}", timeout=60).text
    named = f"{server.url}gradio_api/call/v2/classify"
    assert httpx.post(named, json={"scan": as_address(scans["grey.png"])}, timeout=60).status_code == 200


def test_a_space_shows_no_burnt_in_text(client, scans, tiny, monkeypatch):
    monkeypatch.setattr("bcx.app.wiring.ON_A_SPACE", True)
    monkeypatch.setattr("bcx.inference.prediction.mask_text", np.zeros_like)
    address = client.predict(handle_file(str(scans["grey.png"])), True, api_name="/classify")["overlay"]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
    bare = tiny.predict(scans["grey.png"])
    assert np.array_equal(picture, replace(bare, mask_text=True).overlay())
    assert not np.array_equal(picture, bare.overlay())


def test_an_upload_is_deleted_with_its_answer_while_the_caller_is_still_there(client, server, scans, until):
    for _ in range(3):
        client.predict(handle_file(str(scans["photo.jpg"])), api_name="/classify")
        client.predict([handle_file(str(scans["photo.jpg"]))] * 2, api_name="/batch")
    assert until(lambda: not [path for path in server.files() if path.name == "photo.jpg"])


def test_nothing_is_recorded_or_served_that_was_not_asked_for(server):
    config = httpx.get(f"{server.url}config", timeout=60).json()
    assert config["run_history"] is False
    assert config["analytics_enabled"] is False
    assert urlsplit(server.url).hostname == "127.0.0.1"
    for path in ("/etc/hostname", "pyproject.toml", "demo.py", "bcx/app/page.py"):
        assert httpx.get(f"{server.url}gradio_api/file={path}").status_code in (403, 404)
