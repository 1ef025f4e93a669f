"""How the package is laid out: layers, few files at the root, short modules, a cheap `import bcx`."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]
LONG, TOO_LONG = 400, 450
MOST_AT_THE_ROOT, MOST_ROOMS = 6, 16
HEAVY = ("torch", "gradio", "timm", "cv2", "pandas", "matplotlib")


def test_an_import_points_down_the_layers(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0, "run: lint-imports"


def test_a_newcomer_has_few_rooms_to_know():
    assert len(list((ROOT / "bcx").glob("*.py"))) <= MOST_AT_THE_ROOT
    rooms = {path.parent.name for path in (ROOT / "bcx").glob("*/__init__.py")}
    assert len(rooms) <= MOST_ROOMS
    page = (ROOT / "docs" / "explanation" / "structure.md").read_text("utf-8")
    assert not [room for room in rooms if f"| `{room}/` |" not in page], "each room has a line in docs"


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
