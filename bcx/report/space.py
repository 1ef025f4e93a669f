"""A Hugging Face Space from a checkpoint: what it needs in one folder, whether that folder answers, and its upload.

folder = gather_space(Path("space"), load_checkpoint("mobilenetv2-lesion"))
print(try_space(folder))                      # "benign"
upload(folder, "OWNER/NAME", kind="space")
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal

import yaml

import bcx
from bcx.checkpoints.checkpoint import Checkpoint, load_checkpoint
from bcx.errors import ConfigError, OutputError
from bcx.simulate.examples import PATCHES, write_examples

#: Files of a checkpoint that are shared: those that answer, and the card; no training tables.
ANSWERING = ("config.json", "*.safetensors", "model.onnx", "README.md")
#: Parts of bcx that a page uses: ONNX Runtime, DICOM and slides.
EXTRAS = ("fast", "dicom", "slides")
#: PyTorch's own wheels without CUDA: 2 GB less. A second index, so that pip falls back on the first.
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
_DEMO = '''"""The page of this Space, written by `bcx space`."""

import sys

from bcx.app.server import create, main

demo = create("checkpoints/{name}")

if __name__ == "__main__":
    main(sys.argv[1:], demo)
'''
_PAGE = """# {title}

A network tells apart: {classes}. The page shows where the network looked, how sure it is, and when not to believe it.

**For research and teaching, never for diagnosis.** Uploaded pictures go to the machine that this Space runs on: do not
upload scans of patients.

Model: `{name}` ([card](checkpoints/{name}/README.md)), weights {sha}. Made by bcx {version}.
"""


def gather_space(folder: Path, checkpoint: Checkpoint, *, cpu: bool = True) -> Path:
    """Write everything that a Space needs, and nothing else, into an empty or new folder; else `OutputError`.

    README.md (the Space's settings and a page), requirements.txt (this environment's versions), demo.py, bcx/,
    checkpoints/NAME/ and examples/ (drawn anew). `cpu`: take PyTorch's wheels without CUDA.
    """
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"'{folder}' holds files.", expected="a new or empty folder", remedy="Name another one.")
    lines = [f"--extra-index-url {CPU_WHEELS}"] * cpu + sorted(pinned("bcx", EXTRAS, cuda=not cpu))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bcx-space-", dir=folder.parent) as place:
        _gather(Path(place, "space"), checkpoint, lines)
        if folder.exists():
            folder.rmdir()
        Path(place, "space").rename(folder)
    return folder


def _gather(folder: Path, checkpoint: Checkpoint, lines: list[str]) -> None:
    task, name = checkpoint.task, re.sub(r"[^A-Za-z0-9._-]", "-", checkpoint.name.rpartition("/")[2])
    shutil.copytree(Path(bcx.__file__).parent, folder / "bcx", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    settings = {
        "title": task.title[:60],
        "emoji": "🔎",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": metadata.version("gradio"),
        "python_version": f"{sys.version_info.major}.{sys.version_info.minor}",  # that of the requirements
        "app_file": "demo.py",
        "license": "apache-2.0",
    }
    sha, classes = checkpoint.weights_sha256[:12], ", ".join(task.classes)
    page = _PAGE.format(title=task.title, classes=classes, name=name, sha=sha, version=bcx.__version__)
    front = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False)
    texts = {"requirements.txt": "\n".join(lines) + "\n", "demo.py": _DEMO.format(name=name)}
    for file, text in {**texts, "README.md": f"---\n{front}---\n\n{page}"}.items():
        (folder / file).write_text(text, encoding="utf-8")
    (folder / "checkpoints" / name).mkdir(parents=True)
    for pattern in ANSWERING:
        for own in checkpoint.folder.glob(pattern):
            shutil.copyfile(own, folder / "checkpoints" / name / own.name)
    write_examples(folder / "examples")
    write_examples(folder / "examples" / "histology-idc", PATCHES)


def pinned(package: str, extras: tuple[str, ...] = (), *, cuda: bool = True) -> set[str]:
    """Return "name==version" of everything that an installed package with extras needs, itself left out.

    `cuda`: keep what PyTorch needs for GPUs alone. `ConfigError` where the package or one of these is not installed.
    """
    from packaging.requirements import Requirement

    def needed(name: str, wanted: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
        try:
            given = metadata.requires(name) or []
        except metadata.PackageNotFoundError as error:
            found = f"The package '{name}' is not installed here."
            remedy = f'Install it with: pip install "bcx[{",".join(EXTRAS)}]"'
            raise ConfigError(found, expected="bcx installed with what a page needs", remedy=remedy) from error
        for requirement in map(Requirement, given):
            cases = [{"extra": extra} for extra in ("", *wanted)]
            if requirement.marker is None or any(requirement.marker.evaluate(case) for case in cases):
                yield re.sub(r"[-_.]+", "-", requirement.name).lower(), frozenset(requirement.extras)

    met: set[tuple[str, frozenset[str]]] = set()
    left = [(package, frozenset(extras))]
    while left:
        name, wanted = left.pop()
        if (name, wanted) in met or (not cuda and re.match(r"nvidia-|cuda-|triton$", name)):
            continue
        met.add((name, wanted))
        left += needed(name, wanted)
    return {f"{name}=={metadata.version(name).partition('+')[0]}" for name, _ in met if name != package}


def try_space(folder: Path) -> str:
    """Install a Space's requirements into a fresh environment and answer an example there; return the decision.

    Takes minutes and some gigabytes of disk, freed at the end; `ConfigError` says what failed.
    """
    with tempfile.TemporaryDirectory(prefix="bcx-space-") as place:
        venv.create(place, with_pip=True)
        python = Path(place, "Scripts" if os.name == "nt" else "bin", "python")
        install = ["-m", "pip", "install", "--quiet", "--retries", "1", "-r", "requirements.txt"]
        _run([python, *install], folder, "Its requirements cannot be installed")
        own = next((folder / "checkpoints").iterdir())
        of_task = folder / "examples" / load_checkpoint(own).task.name
        example = min((of_task if of_task.is_dir() else folder / "examples").glob("*.png"))
        command = [python, "-m", "bcx", "predict", example, "--model", own, "--json"]
        return str(json.loads(_run(command, folder, "It does not answer"))["decision"])


def _run(command: Sequence[object], folder: Path, what: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=folder, env=kept, capture_output=True, text=True, check=False)
    if done.returncode:
        said = f"The Space was gathered, but not uploaded. {what}: {' '.join(done.stderr.split())[-600:]}"
        remedy = "Mend that, or leave this check out with --no-check."
        raise ConfigError(said, expected="an environment that answers", remedy=remedy)
    return done.stdout


def upload(
    folder: Path,
    repo: str,
    *,
    kind: Literal["space", "model"],
    private: bool = False,
    hardware: str | None = None,
    only: Sequence[str] | None = None,
) -> str:
    """Upload a folder, or its files that match the patterns in `only`, to the Hub; return the repository's address.

    It is made if it is not there, on a Space's `hardware` (None: as it is), where only its owner sees a `private` one.
    `ConfigError`: the name is impossible, nobody is logged in, the Hub refuses, or what is to be private is public.
    """
    from huggingface_hub import HfApi, SpaceHardware, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if get_token() is None:
        remedy = "Run `hf auth login`, or set HF_TOKEN."
        raise ConfigError("Nobody is logged in to the Hub.", expected="a token with the right to write", remedy=remedy)
    api = HfApi()
    try:
        made = api.create_repo(
            repo,
            repo_type=kind,
            private=private,
            exist_ok=True,
            space_sdk="gradio" if kind == "space" else None,
            space_hardware=SpaceHardware(hardware) if hardware else None,
        )
        if private and not api.repo_info(repo, repo_type=kind).private:
            expected = "a private or new name with --private"
            remedy = "Make it private in its settings, or choose another name."
            raise ConfigError(f"'{repo}' is there already, and everybody can see it.", expected=expected, remedy=remedy)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            repo_type=kind,
            commit_message=f"bcx {bcx.__version__}",
            allow_patterns=None if only is None else list(only),
        )
    except (HfHubHTTPError, HFValidationError, ValueError, OSError) as error:
        found = f"'{repo}' could not be uploaded ({type(error).__name__}: {' '.join(str(error).split())[:300]})."
        expected = "OWNER/NAME, a token with the right to write there, and a connection"
        raise ConfigError(found, expected=expected, remedy="Check these three.") from error
    return str(made)
