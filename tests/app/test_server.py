"""Starting and stopping: `python demo.py` as a person starts it, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from bcx.app import server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.slow
def test_demo_serves_and_deletes_its_folder_when_it_is_stopped(root, tiny_checkpoint, tmp_path, until):
    port = free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GRADIO_")}
    demo = subprocess.Popen(
        [sys.executable, "demo.py", "--checkpoint", str(tiny_checkpoint), "--port", str(port)],
        cwd=root,
        env={**environment, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert until(lambda: answers(f"http://127.0.0.1:{port}/config") or demo.poll() is not None, 180)
        assert demo.poll() is None, demo.stdout.read()
        assert [path.name.startswith(f"{server.PREFIX}{demo.pid}-") for path in tmp_path.iterdir()] == [True]
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.wait(30)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_program_left_behind_is_swept(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = tmp_path / f"{server.PREFIX}{gone.stdout.strip()}-abc"
    alive = tmp_path / f"{server.PREFIX}{os.getpid()}-abc"
    other = tmp_path / "something-else"
    for folder in (left, alive, other):
        folder.mkdir()
        (folder / "scan.png").write_bytes(b"x")
    server.sweep_left_behind(tmp_path)
    assert not left.exists()
    assert alive.exists()
    assert other.exists()


def test_no_option_means_this_machine_only():
    chosen = server.options([])
    assert chosen.host is None
    assert not chosen.share


def test_unknown_options_are_refused(capsys):
    with pytest.raises(SystemExit) as stopped:
        server.options(["--no-such-option"])
    assert stopped.value.code == 2


@pytest.mark.slow
def test_zerogpu_is_imported_before_torch(root, tiny_checkpoint, tmp_path):
    (tmp_path / "spaces.py").write_text("import sys\nprint('torch' in sys.modules)\nGPU = lambda function: function\n")
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])}
    code = "import sys; from bcx.app.server import create; create(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, tiny_checkpoint], env=own, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False"]
