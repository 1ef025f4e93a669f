"""Nothing is sent: what bcx's processes look up, connect to and write, seen from below Python by strace.

Libraries report to their makers from native code, where a test inside Python is blind. Each run gets an empty home
and a minimal environment: CI's own variables silence some of those libraries, and would hide them here.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from bcx.telemetry import SWITCHES
from tests.conftest import answers, free_port
from tests.layouts import write_busi_folder

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or (shutil.which("strace") is None and not os.environ.get("CI")),
    reason="needs strace (Debian: apt-get install strace)",
)

IMPORT_ALL = """
import importlib, pkgutil, bcx
for module in pkgutil.walk_packages(bcx.__path__, "bcx."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
#: What Matplotlib keeps for every program that draws with it: the list of this machine's fonts.
FONT_LIST = {".cache", ".cache/matplotlib", ".config", ".config/matplotlib"}
#: What is kept once for every program of this machine, where it may be written: the system's list of fonts, which
#: Matplotlib asks for, and a random number beside Gradio's own code.
ONCE = re.compile(r"/var/cache/fontconfig/[^/]+|.*/site-packages/gradio/hash_seed\.txt")
_CALLS = "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat"
_INTERNET = re.compile(
    r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?(?:inet_addr|inet_pton)\(.*?\"([0-9a-f.:]+)\""
)
_SYSTEMS_RESOLVER = re.compile(r"sun_path=\"/run/systemd/resolve")
#: The number of the process is filled up with spaces to five places.
_WRITTEN = re.compile(r"^\d+ +(?P<name>creat|mkdir|rename|link|open)\w*\((?:\S+<(?P<at>[^>]*)>, )?\"(?P<path>[^\"]*)\"")
_DNS = "53"


@dataclass(frozen=True)
class Run:
    """One traced program: what it printed, whom it turned to, and where it wrote."""

    status: int
    output: str
    strangers: list[str]
    home: set[str]
    temp: set[str]
    elsewhere: set[str]


@pytest.fixture
def traced(root, tmp_path):
    """Start a program under strace; called again with a running one, wait for its end and return its `Run`."""
    for name in ("home", "temp", "own"):
        (tmp_path / name).mkdir()

    def start(*arguments: str, **more: str) -> subprocess.Popen[str]:
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temp"),
            "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        trace = ["strace", "-f", "--seccomp-bpf", "-y", "-e", f"trace={_CALLS}", "-o", str(tmp_path / "trace")]
        return subprocess.Popen(
            [*trace, sys.executable, *arguments],
            cwd=tmp_path / "own", env=environment | more, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def finish(program: subprocess.Popen[str]) -> Run:
        output, _ = program.communicate(timeout=300)
        lines = (tmp_path / "trace").read_text("utf-8", errors="replace").splitlines()
        assert lines, output
        return Run(
            program.returncode, output, strangers(lines),
            tree(tmp_path / "home"), tree(tmp_path / "temp"), written(lines, outside=tmp_path),
        )  # fmt: skip

    def run(*arguments: str, **more: str) -> Run:
        return finish(start(*arguments, **more))

    run.start, run.finish = start, finish
    return run


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def strangers(lines: list[str]) -> list[str]:
    """The calls that turn to anybody but this machine, and those that look a name up, whoever answers them."""
    found = []
    for line in lines:
        addresses = _INTERNET.findall(line)
        if _SYSTEMS_RESOLVER.search(line) or any(port == _DNS or not at_home(to) for port, to in addresses):
            found.append(line)
    return found


def at_home(address: str) -> bool:
    return address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1")


def written(lines: list[str], outside: Path) -> set[str]:
    """The paths outside a folder that a call made, renamed or opened for writing, and not devices."""
    found = set()
    for line in lines:
        call = _WRITTEN.match(line)
        if not call or " = -1 " in line or (call["name"] == "open" and not re.search("O_(CREAT|WRONLY|RDWR)", line)):
            continue
        path = os.path.normpath(os.path.join(call["at"] or str(outside), call["path"]))
        if not path.startswith(("/dev/", "/proc/", f"{outside}/")):
            found.add(path)
    return found


def assert_quiet(run: Run, may_draw: bool = False) -> None:
    assert run.strangers == []
    fonts = {path for path in run.home if re.fullmatch(r"\.cache/matplotlib/fontlist-.*\.json", path)}
    assert run.home - (FONT_LIST | fonts if may_draw else set()) == set()
    # Torch makes its cache's folder when it is imported, and bcx leaves it empty.
    assert [path for path in run.temp if not re.fullmatch(r"torchinductor_[^/]+", path)] == []
    assert [path for path in run.elsewhere if not ONCE.fullmatch(path)] == []


@pytest.mark.slow
def test_importing_every_module_is_quiet(traced):
    run = traced("-c", IMPORT_ALL)
    assert run.status == 0, run.output
    assert_quiet(run, may_draw=True)


@pytest.mark.slow
def test_predict_is_quiet_with_onnx_runtime_whatever_the_environment_says(traced, root):
    pytest.importorskip("onnxruntime")
    loud = {name: {"1": "0", "0": "1", "False": "True"}[value] for name, value in SWITCHES.items()}
    run = traced("-m", "bcx", "predict", str(root / "examples/simulated-benign-1.png"), "--json", **loud)
    assert run.status == 0, run.output
    assert '"backend": "onnxruntime"' in run.output
    assert_quiet(run)


@pytest.mark.slow
def test_train_is_quiet(traced, tmp_path):
    data = write_busi_folder(tmp_path / "own" / "scans", per_class=6)
    recipe = tmp_path / "own" / "tiny.yaml"
    recipe.write_text("name: tiny\narch: mobilenetv2_035\ninit: scratch\nsize: 48\nepochs: 1\nbatch_size: 8\n")
    run = traced("-m", "bcx", "train", str(recipe), "--data", f"mine={data}", "--out", "trained")
    assert run.status == 0, run.output
    assert (tmp_path / "own/trained/model.safetensors").is_file()
    assert_quiet(run)


@pytest.mark.slow
def test_the_page_is_quiet_and_leaves_nothing(traced, root):
    from gradio_client import Client, handle_file

    url = f"http://127.0.0.1:{(port := free_port())}"
    page = traced.start(str(root / "demo.py"), "--port", str(port))
    try:
        while not answers(f"{url}/config"):
            assert page.poll() is None, page.communicate()[0]
            time.sleep(0.5)
        answer = Client(url, verbose=False).predict(
            handle_file(root / "examples/simulated-benign-1.png"), api_name="/classify"
        )
        assert answer["backend"] in ("onnxruntime", "torch")
    finally:
        child = Path(f"/proc/{page.pid}/task/{page.pid}/children").read_text().split()
        os.kill(int(child[0]), signal.SIGTERM)
        run = traced.finish(page)
    assert run.status == 0, run.output
    assert_quiet(run)
    assert run.temp == set()


def test_a_name_that_is_looked_up_is_seen(traced):
    run = traced("-c", "import socket\ntry: socket.getaddrinfo('host.invalid', 443)\nexcept OSError: pass")
    assert run.strangers


def test_a_file_elsewhere_is_seen(traced, tmp_path_factory):
    file = tmp_path_factory.mktemp("elsewhere") / "trace.txt"
    assert traced("-c", f"open({json.dumps(str(file))}, 'w')").elsewhere == {str(file)}


@pytest.mark.parametrize("process", [7, 4194304])
def test_lines_are_read_whatever_the_length_of_the_processs_number(process):
    # strace prints the number with %-5u.
    line = f'{process:<5} openat(AT_FDCWD</work>, "{{}}", {{}}|O_CLOEXEC, 0666) = 3</elsewhere/trace.txt>'
    lines = [line.format("../elsewhere/trace.txt", "O_WRONLY|O_CREAT"), line.format("/etc/hosts", "O_RDONLY")]
    assert written(lines, outside=Path("/work")) == {"/elsewhere/trace.txt"}
