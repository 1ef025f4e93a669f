"""Everything that is known about one model, gathered from its files: no figure in a card comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter

from bcx.checkpoints.config import read_config
from bcx.errors import CheckpointError
from bcx.evaluate.derived import BY_HOSPITAL
from bcx.tasks import Task

RESULTS = "results"
FIGURES = "figures"
_ELSEWHERE = "a checkpoint's answers to labelled scans"
_TRANSFER = Path("transfer", "results.json")
_DECISIONS = Path("studies", "decisions")
_OBJECT = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True)
class Facts:
    """One model's files, read.

    Attributes:
        folder: of the checkpoint.
        measured: of its results (`results/NAME`), or None where they are not at hand.
        config, results: config.json and results.json; the latter without figures where nothing was measured.
        external: name of the file -> results of `bcx evaluate` on scans from elsewhere, in the order of their names.
        places: out-of-fold localisation of `bcx evaluate --crossval`, or None.
        transfer: results of leaving hospitals and scanners out, or None.
        decisions: results of `bcx decisions`, the rule of decision in hospitals never seen, or None.
    """

    folder: Path
    measured: Path | None
    config: dict[str, Any]
    results: dict[str, Any]
    task: Task
    external: dict[str, dict[str, Any]]
    places: dict[str, Any] | None
    transfer: dict[str, Any] | None
    decisions: dict[str, Any] | None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def by_hospital(self) -> bool:
        """Whether the figures are those of hospitals left out, and not of folds within them."""
        return self.results.get("protocol") == BY_HOSPITAL

    @property
    def was_measured(self) -> bool:
        return "one_view" in self.results

    def figures(self) -> list[Path]:
        """Return the figures of numbers that were drawn for this model, in the order of their names."""
        if self.measured is None or not (self.measured / FIGURES).is_dir():
            return []
        return sorted((self.measured / FIGURES).glob("*.png"))


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; a file that holds none raises `ValueError`."""
    return _OBJECT.validate_json(file.read_bytes())


@contextmanager
def telling_of(folder: Path) -> Iterator[None]:
    """Turn what damaged results do to a text that is written from them into a `CheckpointError`."""
    try:
        yield
    except (OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"'{folder.name}' has no figures to report ({type(error).__name__}: {str(error)[:300]}).",
            expected="a checkpoint with config.json and results.json as `bcx train` and `bcx crossval` write them",
            remedy="Train it with bcx train, or fetch it again.",
        ) from error


def results_folder(checkpoint: Path) -> Path | None:
    """Return `results/NAME` beside the folder of checkpoints, or in the current one; None without."""
    name = checkpoint.resolve().name
    for place in (checkpoint.resolve().parent.parent, Path.cwd()):
        if any((place / RESULTS / name / file).is_file() for file in ("results.json", _TRANSFER)):
            return place / RESULTS / name
    return None


def gather(folder: Path) -> Facts:
    """Read what is known about a checkpoint; `CheckpointError` where a file is missing or damaged."""
    folder = folder.resolve()
    task = read_config(folder).task
    with telling_of(folder):
        config, results = read_json(folder / "config.json"), read_json(folder / "results.json")
        measured = results_folder(folder)
        if measured is None:
            return Facts(folder, None, config, results, task, {}, None, None, None)
        files = {file.name: read_json(file) for file in sorted(measured.glob("*.json"))}
        external = {
            name: found
            for name, found in files.items()
            if found.get("what") == _ELSEWHERE and found["model"]["name"] == folder.name
        }
        places = files.get("localisation.json")
        transfer, decisions = (
            read_json(file) if file.is_file() else None
            for file in (measured / _TRANSFER, measured.parent / _DECISIONS / folder.name / "decisions.json")
        )
    return Facts(folder, measured, config, results, task, external, places, transfer, decisions)
