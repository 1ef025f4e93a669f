"""A Space and a checkpoint for the Hub: what is gathered, and what arrives at a server that stands in for the Hub."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata

import pytest
import yaml

from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.errors import ConfigError, OutputError
from bcx.report.space import CPU_WHEELS, gather_space, pinned


class Hub(BaseHTTPRequestHandler):
    """As much of huggingface.co as an upload asks for: files of weights go through LFS, the others into the commit."""

    def answer(self, content, status=200):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_GET(self):
        if self.path.startswith(("/api/spaces/ann/", "/api/models/ann/")):
            self.answer({"id": "ann/scans", "private": self.server.private})
        else:
            self.answer({"error": "not found"}, 404)

    def do_PUT(self):
        self.server.stored[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def do_POST(self):
        server, sent = self.server, self.body()
        if self.headers.get("Authorization") != "Bearer secret":
            self.answer({"error": "Invalid token"}, 401)
        elif self.path == "/api/repos/create":
            server.made = json.loads(sent)
            kind = "spaces/" if server.made.get("type") == "space" else ""
            self.answer({"url": f"{server.url}/{kind}{server.made['organization']}/{server.made['name']}"})
        elif self.path.endswith("/preupload/main"):
            files = json.loads(sent)["files"]
            modes = [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith("safetensors") else "regular"}
                for file in files
            ]
            self.answer({"files": [{**mode, "shouldIgnore": False} for mode in modes]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{server.url}/store/{each['oid']}"}}}
                for each in json.loads(sent)["objects"]
            ]
            self.answer({"transfer": "basic", "objects": objects})
        elif "/commit/main" in self.path:
            server.commit = [json.loads(line) for line in sent.splitlines()]
            self.answer({"commitUrl": f"{server.url}/ann/x/commit/1", "commitOid": "1", "hookOutput": ""})
        else:
            self.answer({})

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url, server.stored, server.commit, server.made = f"http://127.0.0.1:{server.server_port}", {}, [], {}
    server.private = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def bcx_command(hub, home, *words, token="secret"):
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    own = {**os.environ, **settings, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    own.pop("HF_TOKEN", None)
    if token:
        own["HF_TOKEN"] = token
    return subprocess.run(
        [sys.executable, "-m", "bcx", *map(str, words)], env=own, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def gathered(tiny_checkpoint, tmp_path_factory):
    """A Space of the tiny model, which takes seconds to make. Read only."""
    return gather_space(tmp_path_factory.mktemp("gathered") / "space", load_checkpoint(tiny_checkpoint))


def arrived(hub):
    """Each file's content by its path, whichever way it came."""
    found = {}
    for line in hub.commit:
        if line["key"] == "file":
            found[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        elif line["key"] == "lfsFile":
            found[line["value"]["path"]] = hub.stored[line["value"]["oid"]]
    return found


@pytest.mark.slow
def test_a_space_holds_what_it_needs_and_nothing_else(gathered, tiny_checkpoint):
    folder = gathered
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.md", "bcx", "checkpoints", "demo.py", "examples", "requirements.txt")
    ]
    settings = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---\n")[1])
    assert settings["title"].startswith("Breast ultrasound")
    assert (settings["sdk"], settings["app_file"]) == ("gradio", "demo.py")
    assert settings["sdk_version"] == metadata.version("gradio")
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert lines[0] == f"--extra-index-url {CPU_WHEELS}"
    pins = dict(line.split("==") for line in lines[1:])
    assert {"torch", "timm", "gradio", "grad-cam", "onnxruntime", "pydicom"} <= set(pins)
    assert not {name for name in pins if name.startswith(("nvidia", "cuda")) or name in ("bcx", "pytest", "optuna")}
    assert not list(folder.rglob("__pycache__"))
    assert (folder / "checkpoints" / "tiny" / "config.json").read_bytes() == (
        tiny_checkpoint / "config.json"
    ).read_bytes()
    with pytest.raises(OutputError, match="holds files"):
        gather_space(folder, load_checkpoint(tiny_checkpoint))


def test_pins_are_what_is_installed(tmp_path):
    assert {"numpy", "scipy"} <= {pin.partition("==")[0] for pin in pinned("scikit-learn")}
    assert f"numpy=={metadata.version('numpy')}" in pinned("scikit-learn")
    with pytest.raises(ConfigError, match="'no-such-package' is not installed"):
        pinned("no-such-package")


@pytest.mark.slow
def test_its_demo_opens_with_its_model(gathered, tmp_path):
    code = "import demo; print([c['props'].get('value') for c in demo.demo.config['components']])"
    own = {**os.environ, "PYTHONPATH": str(gathered), "HOME": str(tmp_path), "BCX_CHECKPOINTS": ""}
    own["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=gathered, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "tiny" in done.stdout


@pytest.mark.slow
def test_a_space_arrives_whole(hub, gathered, tiny_checkpoint, tmp_path):
    words = ("space", "ann/scans", "--model", tiny_checkpoint, "--no-check", "--private", "--hardware", "cpu-basic")
    done = bcx_command(hub, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert (hub.made["type"], hub.made["sdk"], hub.made["name"]) == ("space", "gradio", "scans")
    assert hub.made["organization"] == "ann"
    assert hub.made.get("private") is True or hub.made.get("visibility") == "private"
    found = arrived(hub)
    assert found == {
        path.relative_to(gathered).as_posix(): path.read_bytes() for path in gathered.rglob("*") if path.is_file()
    }


@pytest.mark.slow
def test_a_checkpoint_arrives_with_its_weights(hub, tiny_checkpoint, tmp_path):
    done = bcx_command(hub, tmp_path, "push", tiny_checkpoint, "ann/tiny")
    assert done.returncode == 0, done.stderr
    assert hub.made["type"] == "model" or "type" not in hub.made
    found = arrived(hub)
    weights = (tiny_checkpoint / "model.safetensors").read_bytes()
    assert hashlib.sha256(found["model.safetensors"]).digest() == hashlib.sha256(weights).digest()
    assert set(found) <= {"config.json", "model.safetensors", "gate.safetensors", "head.safetensors", "README.md"}


@pytest.mark.slow
def test_what_is_to_be_private_is_not_put_where_everybody_looks(hub, tiny_checkpoint, tmp_path):
    hub.private = False
    done = bcx_command(hub, tmp_path, "push", tiny_checkpoint, "ann/tiny", "--private")
    assert done.returncode == 2
    assert "everybody can see it" in done.stderr
    assert hub.commit == []


def test_a_space_that_is_not_finished_leaves_nothing(tiny_checkpoint, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bcx.report.space.write_examples", full)
    with pytest.raises(OSError, match="No space left"):
        gather_space(tmp_path / "here" / "space", load_checkpoint(tiny_checkpoint))
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.slow
def test_without_a_token_or_with_a_wrong_one_it_says_what_to_do(hub, tiny_checkpoint, tmp_path):
    done = bcx_command(hub, tmp_path, "push", tiny_checkpoint, "ann/tiny", token=None)
    assert done.returncode == 2
    assert "hf auth login" in done.stderr
    done = bcx_command(hub, tmp_path, "push", tiny_checkpoint, "ann/tiny", token="other")
    assert done.returncode == 2
    assert "'ann/tiny' could not be uploaded" in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.commit == []
