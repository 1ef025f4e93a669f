"""A box through the endpoints: the numbers that Python gives, and a refusal in words for everything else."""

import base64

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from bcx.app import incoming
from bcx.errors import RequestError
from tests.app.test_api import by_mcp

BOX = [20, 30, 90, 80]


@pytest.fixture(scope="module")
def client(lesion_server):
    client = Client(lesion_server.url, verbose=False, analytics_enabled=False)
    yield client
    client.close()


def test_every_door_takes_a_box_and_gives_the_numbers_of_python(client, lesion_server, scans, tiny_lesion):
    path = scans["grey.png"]
    address = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    (tool,) = by_mcp(lesion_server, ("classify", {"scan": address, "box": BOX}))
    run = httpx.post(f"{lesion_server.url}gradio_api/run/classify", json={"data": [address, False, BOX]}, timeout=60)
    expected = tiny_lesion.predict(path, box=BOX)
    assert expected.probabilities != pytest.approx(tiny_lesion.predict(path).probabilities, abs=1e-4)
    by_client = client.predict(handle_file(str(path)), box=BOX, api_name="/classify")
    for answer in (by_client, tool.structuredContent, run.json()["data"][0]):
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
        assert (answer["box"], answer["second_look"]) == (BOX, [20, 20, 70])
        assert answer["lesions"] == [each.to_dict() for each in expected.lesions]


def test_an_empty_or_missing_box_is_none(client, scans, tiny_lesion):
    expected = tiny_lesion.predict(scans["grey.png"])
    for more in ({}, {"box": []}, {"box": None}):
        answer = client.predict(handle_file(str(scans["grey.png"])), **more, api_name="/classify")
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
        assert answer["box"] is None


@pytest.mark.parametrize(
    ("box", "words"),
    [([0, 0, 50], "four numbers"), ([0, 0, 50, "50"], "edge"), ([0, 0, 500, 50], "within the scan of 140 x 110")],
)
def test_a_wrong_box_is_refused_in_words(client, scans, box, words):
    with pytest.raises(AppError, match=words):
        client.predict(handle_file(str(scans["grey.png"])), box=box, api_name="/classify")


@pytest.mark.parametrize(
    "sent",
    [{}, {"left": 1}, "1 2 3 4", 0, False, [[1], 2, 3, 4], [True, 0, 9, 9], [0, 0, float("nan"), 9], [-1, 0, 9, 9]],
)
def test_what_a_client_sends_as_a_box_is_checked(sent):
    with pytest.raises(RequestError):
        incoming.box(sent)
    assert incoming.box([1, 2.5, 30, 40]) == (1, 2.5, 30, 40)
