"""From a folder of pictures to a demo by four commands, as docs/how-to/bring-your-own-images.md has them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from PIL import Image

from bcx.errors import ConfigError
from bcx.simulate.histology import simulate_patch
from bcx.tasks import get_task
from bcx.train.config import Recipe, load_recipe
from tests.conftest import answers, free_port

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "how-to" / "bring-your-own-images.md"
BLOCKS = dict(re.findall(r"```(yaml|bash)\n(.*?)```", PAGE.read_text("utf-8"), re.S))
COMMANDS = [line for line in BLOCKS["bash"].splitlines() if line.strip()]


def test_the_page_has_four_commands_and_a_recipe_that_is_one(tmp_path):
    assert [" ".join(shlex.split(line)[:2]) for line in COMMANDS] == [
        "bcx audit",
        "bcx train",
        "bcx evaluate",
        "python demo.py",
    ]
    recipe = load_recipe(_recipe(tmp_path))
    task = get_task(recipe.task)
    assert task.classes == ("quiet", "busy")
    assert task.positive == "busy"
    assert task.stored() == {**task.stored(), "classes": ["quiet", "busy"]}
    # nothing of the task stands in the code
    for file in (ROOT / "bcx").rglob("*.py"):
        assert task.name not in file.read_text("utf-8"), file


def test_a_recipe_says_what_is_wrong_with_its_task(tmp_path):

    with pytest.raises(ConfigError, match="at least two"):
        load_recipe(None, {"task": {"name": "one", "classes": ["one"]}})
    assert Recipe(task="histology-idc").identity()["task"] == "histology-idc"
    assert "watch" not in Recipe().identity()


def _recipe(folder: Path) -> Path:
    file = folder / "mine.yaml"
    file.write_text(BLOCKS["yaml"])
    return file


@pytest.fixture
def here(tmp_path) -> Path:
    """The page's folder `my-images`, drawn, its recipe made small, and no checkpoint."""
    for label, drawn in (("quiet", "negative"), ("busy", "positive")):
        (tmp_path / "my-images" / label).mkdir(parents=True)
        for seed in range(24):
            Image.fromarray(simulate_patch(drawn, seed, side=64)).save(
                tmp_path / "my-images" / label / f"{label}-{seed}.png"
            )
    settings = yaml.safe_load(BLOCKS["yaml"])
    settings |= {"arch": "mobilenetv2_035", "size": 64, "epochs": 4, "batch_size": 8, "init": "scratch"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    shutil.copy(ROOT / "demo.py", tmp_path / "demo.py")
    return tmp_path


def _words(line: str) -> list[str]:
    return [word for word in shlex.split(line) if word not in ("--init", "timm")]


@pytest.mark.slow
def test_four_commands_lead_from_a_folder_to_a_page(here, monkeypatch, run):
    monkeypatch.chdir(here)
    for line in COMMANDS[:3]:
        done = run(*_words(line)[1:])
        assert done.status == 0, done.err[-2000:]
    assert (here / "audit" / "report.html").is_file()
    config = json.loads((here / "checkpoints" / "mine" / "config.json").read_text())
    assert config["bcx"]["task"]["classes"] == ["quiet", "busy"]
    figures = json.loads((here / "mine.json").read_text())["figures"]
    assert 0 <= figures["balanced_accuracy"]["value"] <= 1
    assert "sensitivity_busy" in figures

    url = f"http://127.0.0.1:{(port := free_port())}/config"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GRADIO_SERVER_PORT": str(port)}
    command = [sys.executable, *_words(COMMANDS[3])[1:]]
    page = subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        while not answers(url):
            assert page.poll() is None
            time.sleep(0.5)
        assert "busy" in httpx.get(url).text
    finally:
        page.terminate()
        page.wait(60)
