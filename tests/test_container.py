"""The container without one: what the Dockerfile copies and runs, in a bare environment with code of its own."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bcx.app.login import VARIABLE
from bcx.app.server import PREFIX
from tests.app.test_login import basic
from tests.conftest import free_port


@pytest.fixture(scope="module")
def steps(root) -> list[tuple[str, str]]:
    """(instruction, rest) of each line, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (root / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def all_of(steps: list[tuple[str, str]], name: str) -> list[str]:
    return [rest for instruction, rest in steps if instruction == name]


def variables(steps: list[tuple[str, str]]) -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in all_of(steps, "ENV") for pair in shlex.split(rest))


def command(text: str) -> list[str]:
    """The program of a CMD or HEALTHCHECK, with this test's Python for the container's."""
    words = json.loads(text[text.index("[") :])
    assert words[0] == "python"
    return [sys.executable, *words[1:]]


def test_it_runs_as_nobody_in_particular_and_from_pinned_packages(steps, root):
    (user,) = all_of(steps, "USER")
    assert all(int(number) >= 1000 for number in user.split(":"))
    assert steps.index(("USER", user)) > max(place for place, (name, _) in enumerate(steps) if name in ("RUN", "COPY"))
    version = re.search(r'python_version: "([0-9.]+)"', (root / "README.md").read_text())[1]
    assert all_of(steps, "FROM") == [f"python:{version}-slim-bookworm"]
    assert all_of(steps, "RUN") == ["pip install -r requirements.txt"]
    wanted = [line.split("#")[0].strip() for line in (root / "requirements.txt").read_text().splitlines()]
    assert [line for line in wanted if line and "==" not in line] == []


def test_what_is_copied_is_sent_to_the_builder_and_is_code(steps, root):
    copied = {word for rest in all_of(steps, "COPY") for word in rest.split()[:-1]}
    ignored = (root / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert all((root / name).exists() for name in copied)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_its_commands_answer_from_a_folder_that_cannot_be_written(steps, root, tmp_path):
    code, home, temp = (tmp_path / name for name in ("code", "home", "temp"))
    for folder in (code, home, temp):
        folder.mkdir()
    for rest in all_of(steps, "COPY"):
        *sources, target = rest.split()
        for source in (root / name for name in sources):
            if source.is_dir():
                shutil.copytree(source, code / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, code / target)
    for path in [home, code, *code.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = tree(code)
    own = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(temp), "GRADIO_SERVER_PORT": str(free_port())}
    environment = {**variables(steps), **own, VARIABLE: "ada:correct horse", "GRADIO_SERVER_NAME": "127.0.0.1"}
    # Tests import bcx from the checkout or an installation; this must be the copy, as in the container.
    environment["PYTHONPATH"] = str(code)
    page = subprocess.Popen(
        command(all_of(steps, "CMD")[0]),
        cwd=code,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        check = command(all_of(steps, "HEALTHCHECK")[0])
        assert subprocess.run(check, cwd=code, env=environment, capture_output=True).returncode == 1
        end = time.monotonic() + 180
        while subprocess.run(check, cwd=code, env=environment, capture_output=True).returncode:
            assert page.poll() is None, page.communicate()[0]
            assert time.monotonic() < end
            time.sleep(1)
        from gradio_client import Client, handle_file

        client = Client(
            f"http://127.0.0.1:{own['GRADIO_SERVER_PORT']}", headers=basic("ada:correct horse"), verbose=False
        )
        answer = client.predict(handle_file(root / "examples/simulated-benign-1.png"), api_name="/classify")
        assert answer["label"] in answer["probabilities"]
        assert [name for name in os.listdir(temp) if name.startswith(f"{PREFIX}{page.pid}-")]
    finally:
        page.send_signal(signal.SIGTERM)
        said = page.communicate(timeout=60)[0]
        for path in [home, code, *code.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
    assert page.returncode == 0, said
    assert tree(code) == before
    assert os.listdir(home) == []
    assert os.listdir(temp) == []
