"""Starting the page: its options, its imports, and what an earlier one left behind."""

import os
import subprocess
import sys

import pytest

from bcx.app import server
from bcx.app.gpu import on_gpu


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


def test_zerogpu_is_imported_before_torch_and_lends_its_gpu(root, tmp_path, monkeypatch):
    zero = tmp_path / "spaces.py"
    zero.write_text("import sys\nprint('torch' in sys.modules)\nsys.exit()\n")  # the rest takes long
    own = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])}
    command = [sys.executable, "-c", "from bcx.app.server import create; create('any')"]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    assert on_gpu(len) is len
    zero.write_text("def GPU(function):\n    return lambda given: function(given) + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert on_gpu(len)("four") == 5
    del sys.modules["spaces"]
