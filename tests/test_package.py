"""The package: what is declared is pinned, described and used, and what is used is declared."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bcx

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# What a Space installs, and what else the package can use.
SPACE = ("train", "dicom", "fast", "slides")
PACKAGE = (*SPACE, "captum", "dicom-out", "logs", "cluster")
# Nothing imports these, and something needs them: timm, pydicom (its decoders), accelerate, and tools that are run.
NOT_IMPORTED = {
    "torchvision", "tensorboard", "pylibjpeg", "pylibjpeg-openjpeg",
    "mkdocs-material", "mkdocstrings", "mypy", "pre-commit", "ruff", "pytest-timeout", "pytest-xdist",
}  # fmt: skip
# Part of Hugging Face's ZeroGPU machines, and of nothing else.
OPTIONAL = {"spaces"}


def requirements(*extras: str) -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    found = (Requirement(line) for line in lines if not line.startswith("bcx["))
    return {canonicalize_name(each.name): each for each in found}


def pins(file: str) -> dict[str, str]:
    lines = (line.split(" ;")[0].strip() for line in (ROOT / file).read_text("utf-8").splitlines())
    return {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }


@cache
def distributions() -> dict[str, list[str]]:
    return {
        name: [canonicalize_name(each) for each in found] for name, found in metadata.packages_distributions().items()
    }


@cache
def imported(folder: str) -> set[str]:
    """The distributions that Python files below `folder` import, wherever the import stands."""
    names: set[str] = set()
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
                names.add(str(node.args[0].value).split(".")[0])
    local = {"bcx", "conftest", "demo", "tests", "benchmarks", *OPTIONAL, *sys.stdlib_module_names}
    return {found for name in names - local for found in distributions().get(name, [name])}


@pytest.mark.parametrize(
    ("file", "extras"), [("requirements.txt", SPACE), ("requirements-test.txt", (*PACKAGE, "test"))]
)
def test_what_is_declared_is_pinned_within_its_range(file, extras):
    pinned = pins(file)
    for name, requirement in requirements(*extras).items():
        assert name in pinned, f"{name} is not in {file}: run `bash .ci/pin`"
        assert requirement.specifier.contains(pinned[name]), f"{file} pins {name} {pinned[name]}, not {requirement}"


def test_both_files_pin_the_same_versions():
    page, tests = pins("requirements.txt"), pins("requirements-test.txt")
    assert page == {name: tests.get(name) for name in page}


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-test.txt"])
def test_pins_name_no_machine_and_no_registry(file):
    for line in (ROOT / file).read_text("utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.\-]+(\[[\w,\-]+\])?==[\w.+!]+( ; .+)?", line), line


def test_the_package_imports_only_what_it_declares():
    assert imported("bcx") <= set(requirements(*PACKAGE))


def test_tests_and_benchmarks_import_only_what_is_declared():
    used = imported("tests") | imported("benchmarks") | imported("docs")
    assert used <= set(requirements(*PACKAGE, "test")) | {"packaging"}


def test_what_is_declared_is_used():
    used = imported("bcx") | imported("tests") | imported("benchmarks") | NOT_IMPORTED
    assert set(requirements(*PACKAGE, "test")) <= used
    assert set(requirements(*PACKAGE)) <= imported("bcx") | NOT_IMPORTED


def test_every_dependency_is_described():
    page = (ROOT / "docs" / "reference" / "dependencies.md").read_text("utf-8")
    cells = re.findall(r"^\| ([^|]+) \|", page, flags=re.MULTILINE)
    described = {canonicalize_name(name.strip()) for cell in cells for name in cell.split(",")} - {"package", "-"}
    assert described == set(requirements(*PACKAGE, "docs", "test"))


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == bcx.__version__


def test_public_names_are_there_and_others_are_not():
    for name in bcx.__all__:
        assert getattr(bcx, name) is not None
        assert name in dir(bcx)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = bcx.no_such_name


def test_no_shipped_file_is_too_large_or_a_pickle():
    folders = [ROOT / name for name in ("bcx", "checkpoints", "configs", "examples", "results", "docs")]
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        assert path.stat().st_size < 50e6, path
        assert path.suffix not in {".pt", ".pth", ".ckpt", ".pkl", ".pickle"}, path


def test_the_default_model_travels_with_the_package():
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]
    folder = f"checkpoints/{bcx.DEFAULT_MODEL}"
    assert targets["wheel"]["force-include"] == {folder: f"bcx/_{folder}"}
    assert f"/{folder}" in targets["sdist"]["include"]
    assert (ROOT / folder / "model.safetensors").is_file()
