"""What made a result: command, recipe, commit, versions, and the data by name and hash, never by path."""

import hashlib
import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bcx.checkpoints.checkpoint import sha256_of
from bcx.data.records import Record
from bcx.files import whole
from bcx.networks.device import computes_bf16, pick_device
from bcx.train.config import Recipe

_PACKAGES = ("torch", "timm", "albumentations", "accelerate", "numpy", "scikit-learn")


def describe_run(recipe: Recipe, records: Sequence[Record], command: str) -> dict[str, Any]:
    """Return command, recipe, commit, versions and data, ready for JSON."""
    settings, start = recipe.model_dump(exclude={"data"}), Path(recipe.init)
    if start.is_file():
        settings["init"] = {"file": start.name, "sha256": sha256_of(start)}
    return {**describe_command(command), "recipe": settings, "data": describe_data(records)}


def describe_command(command: str) -> dict[str, Any]:
    """Return command, commit, versions and machine, ready for JSON."""
    return {
        "command": command,
        "commit": current_commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "bf16": computes_bf16(pick_device())},
    }


def describe_data(records: Sequence[Record]) -> dict[str, Any]:
    """Return per source: scans per class, groups, and a hash over every file's name, label, group and content."""
    described = {}
    for source in sorted({record.source for record in records}):
        part = sorted((record for record in records if record.source == source), key=lambda record: record.key)
        digest = hashlib.sha256()
        for record in part:
            digest.update(f"{record.key}\t{record.label}\t{record.group}\t{sha256_of(record.file)}\n".encode())
        described[source] = {
            "scans": len(part),
            "classes": dict(sorted(Counter(record.label for record in part).items())),
            "groups": len({record.group for record in part}),
            "sha256": digest.hexdigest(),
        }
    return described


def current_commit() -> str | None:
    """Return the commit of the checkout that runs, "-dirty" when code was changed since, None outside a checkout."""
    here = Path(__file__).resolve().parent
    git = ["git", "--no-optional-locks", "-C", str(here)]  # without that option, git would write to the index
    try:
        commit, changed = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", str(here)])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("-dirty" if changed else "")


def write_json(file: Path, content: dict[str, Any]) -> None:
    """Write JSON at once or not at all."""
    with whole(file) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def hash_of(content: Any) -> str:
    """Return a SHA-256 of what JSON can say."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object."""
    return json.loads(file.read_text(encoding="utf-8"))
