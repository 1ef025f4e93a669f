"""One file, one set of probabilities: from Python, from a stream, from the command line and over HTTP.

With the shipped model and the shipped examples, so that what people see is what is compared.
"""

import json

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image
from typer.testing import CliRunner

import bcx
from bcx.simulate import simulate


@pytest.fixture(scope="module")
def files(root, tmp_path_factory):
    """The shipped examples, and the formats whose decoding could differ from door to door."""
    folder = tmp_path_factory.mktemp("files")
    pixels = simulate("malignant", 11, 240, 300).pixels
    colour = np.stack([pixels, pixels, pixels // 2], axis=2)
    Image.fromarray(pixels.astype(np.uint16) * 211).save(folder / "sixteen-bits.tiff")
    Image.fromarray(colour).save(folder / "colour.jpg", quality=80)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(colour).convert("P").save(folder / "palette.gif")
    return [*sorted((root / "examples").glob("*.png")), *sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def classifier():
    return bcx.load()


@pytest.fixture(scope="module")
def expected(classifier, files):
    return [classifier.predict(file).to_dict() for file in files]


def assert_same(found, expected):
    assert len(found) == len(expected) >= 10
    for one, other in zip(found, expected, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
        for key in set(other) - {"probabilities", "confidence", "seconds", "name"}:
            assert one[key] == other[key], key
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-5)


def test_a_stream_says_what_predict_says(classifier, files, expected):
    assert_same([answer.to_dict() for answer in classifier.stream(files)], expected)


def test_the_command_line_says_what_python_says(files, expected):
    from bcx.cli.main import app

    done = CliRunner().invoke(app, ["predict", *map(str, files), "--json"])
    assert done.exit_code == 0, done.output
    assert_same([json.loads(line) for line in done.stdout.splitlines()], expected)


@pytest.mark.slow
def test_the_page_says_what_python_says(classifier, files, expected, root, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    from bcx.app.page import build_app
    from bcx.app.server import launch

    app = build_app(classifier, root / "examples")
    _, url, _ = launch(app, prevent_thread_lock=True, quiet=True)
    client = Client(url, verbose=False, analytics_enabled=False)
    try:
        sent = [handle_file(str(file)) for file in files]
        assert_same([client.predict(file, api_name="/classify") for file in sent], expected)
        assert_same(client.predict(sent, api_name="/batch"), expected)
    finally:
        client.close()
        app.close(verbose=False)
