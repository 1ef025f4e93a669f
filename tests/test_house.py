"""The house has floors: an import points down or sideways, never up; modules stay short; `import bcx` stays cheap."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import warnings
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. A room is a module of bcx or a package with all its modules; "bcx" is the package's own __init__,
# which hands out the engine's names. A new module gets its floor here, as low as its purpose allows.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "tasks"),
    ("images", "dicom", "headers", "pixels"),
    ("data", "simulate"),
    ("preprocess", "look"),
    ("model", "lesion", "account", "tiny_cnn", "dense", "ensemble", "checkpoint", "reading", "backends", "onnx_export"),
    ("explain", "trust"),
    ("engine", "prediction", "slides", "bcx"),
    ("evaluate", "audit"),
    ("train", "report", "synth"),
    ("app", "cli", "cli_*", "found", "table", "__main__"),
)
# Plain values in bcx/__init__.py that any floor may read.
PLAIN = {"bcx.__version__", "bcx.DEFAULT_MODEL"}

LONG, TOO_LONG = 400, 450
HEAVY = ("torch", "gradio", "timm", "cv2", "pandas", "matplotlib")


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor_of(module: str) -> int | None:
    """The floor of a dotted name inside bcx, or None where its room is not listed."""
    room = module.split(".")[1] if "." in module else module
    for number, rooms in enumerate(FLOORS):
        if any(fnmatchcase(room, pattern) for pattern in rooms):
            return number
    return None


def imports_of(source: str, module: str, is_package: bool) -> set[tuple[int, str]]:
    """Every import of bcx in `source`, wherever it stands, as (line, dotted name as far as it is written).

    `from bcx.a import b` gives "bcx.a.b". Names that a module hands to `import_module` are found as well, as every
    string of the form "bcx.something" in a module that mentions it.
    """
    tree = ast.parse(source)
    found: set[tuple[int, str]] = set()
    dynamic = re.search(r"\b(import_module|__import__)\b", source) is not None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(node.lineno, alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            found |= {(node.lineno, f"{base}.{alias.name}") for alias in node.names}
        elif dynamic and isinstance(node, ast.Constant) and re.fullmatch(r"bcx(\.\w+)+", str(node.value)):
            found.add((node.lineno, str(node.value)))
    return {(line, name) for line, name in found if name.split(".")[0] == "bcx"}


def faults(package: Path) -> list[str]:
    """What is wrong with the imports of the package folder, one sentence each."""
    root = package.parent
    files = {module_name(path, root): path for path in sorted(package.rglob("*.py"))}
    asked = {".".join(name.split(".")[:2]) for name in files if floor_of(name) is None}
    wrong = []
    for module, path in files.items():
        floor = floor_of(module)
        if floor is None:
            wrong.append(f"{module} has no floor: give it one in FLOORS in tests/test_house.py.")
            continue
        for line, name in sorted(imports_of(path.read_text("utf-8"), module, path.name == "__init__.py")):
            if name in PLAIN or ".".join(name.split(".")[:2]) in asked:
                continue
            reached = floor_of(name)
            if reached is None:  # no room of that name: bcx/__init__.py hands it out
                reached = floor_of("bcx")
            if reached > floor:
                wrong.append(f"{module}, line {line}: imports {name}, which is on floor {reached}, from floor {floor}.")
    return wrong


def build(folder: Path, **modules: str) -> Path:
    """Write a made-up package `bcx`; `a__b` in a name stands for a/b."""
    package = folder / "bcx"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name, source in modules.items():
        path = package.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    return package


def test_every_import_points_down_or_sideways():
    wrong = faults(ROOT / "bcx")
    assert not wrong, "\n".join(wrong)


def test_no_module_is_too_long():
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "bcx").rglob("*.py")}
    assert lengths
    too_long = {str(path.relative_to(ROOT)): count for path, count in lengths.items() if count > TOO_LONG}
    assert not too_long, f"More than {TOO_LONG} lines: {too_long}. Such a module has two ideas in it; split it."
    for path, count in lengths.items():
        if count > LONG:
            warnings.warn(f"{path.relative_to(ROOT)} has {count} lines; {LONG} is the aim.", stacklevel=1)


def test_importing_bcx_loads_nothing_heavy():
    code = "import json, sys; import bcx; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "bcx" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(
    "source",
    [
        "from bcx.inference.classifier import load\n",
        "import bcx.inference.classifier\n",
        "import bcx.inference.classifier as below\n",
        "from bcx import engine\n",
        "from bcx import load\n",
        "import bcx\n",
        "from . import engine\n",
        "from .engine import load\n",
        "def later():\n    from bcx.inference.classifier import load\n    return load\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bcx.inference.classifier import Classifier\n",
        "from importlib import import_module\nload = import_module('bcx.inference.classifier').load\n",
    ],
)
def test_the_checker_finds_an_import_that_points_up(tmp_path, source):
    package = build(tmp_path, engine="", images=source)
    found = faults(package)
    assert len(found) >= 1
    assert all(sentence.startswith("bcx.imaging.scan, line ") and "from floor 1" in sentence for sentence in found)


def test_the_checker_looks_inside_packages(tmp_path):
    package = build(
        tmp_path, trust__gate="from ..app import page\n", app__page="", data__readers="import bcx.data.split"
    )
    assert faults(package) == ["bcx.trust.gate, line 1: imports bcx.app.page, which is on floor 9, from floor 5."]


def test_the_checker_lets_imports_point_down_and_sideways(tmp_path):
    package = build(
        tmp_path,
        errors="import bcxtra.engine\nfrom json import load\n",
        images="from bcx.errors import BcxError\nfrom bcx import __version__, DEFAULT_MODEL\n",
        engine="from bcx import load\nfrom . import images\nfrom bcx.inference.prediction import Prediction\n",
        prediction="'''Not an import: bcx.app'''\n",
        cli_train="from bcx.cli import main\nimport bcx.train.fit\n",
        cli="import bcx\n",
        train__fit="from bcx.train.augment import recipe\nfrom .augment import recipe\nfrom ..evaluate import oof\n",
        train__augment="",
        evaluate__oof="",
    )
    assert faults(package) == []


def test_a_module_without_a_floor_is_asked_for_one(tmp_path):
    package = build(tmp_path, misc="", helpers__text="", images="import bcx.misc")
    found = faults(package)
    assert [sentence.split()[0] for sentence in found] == ["bcx.helpers.text", "bcx.misc"]
    assert all("give it one in FLOORS" in sentence for sentence in found)


def test_no_room_is_on_two_floors():
    rooms = [room for floor in FLOORS for room in floor]
    assert len(rooms) == len(set(rooms))
