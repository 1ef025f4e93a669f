"""Everything that is known about one model, gathered from its files: no figure in a card comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError
from pydantic import JsonValue, TypeAdapter

from bcx.checkpoints.config import read_config
from bcx.errors import CheckpointError, DataError
from bcx.evaluate.derived import BY_HOSPITAL
from bcx.tasks import Task

FIGURES, OOF = "figures", "oof.csv"
_ELSEWHERE = "a checkpoint's answers to labelled scans"
_TRANSFER = Path("transfer", "results.json")
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, JsonValue])


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

    def tables(self) -> list[Path]:
        """Return the tables of out-of-fold answers, that of the results first; `DataError` where there is none."""
        places = [folder / OOF for folder in (self.measured, self.folder) if folder is not None]
        if found := [file for file in places if file.is_file()]:
            return found
        raise DataError(
            f"There are no out-of-fold answers of '{self.name}'.",
            expected=f"{OOF} in results/{self.name} or beside the weights",
            remedy="Run bcx crossval, or fetch the checkpoint with all its files.",
        )


@contextmanager
def telling_of(folder: Path) -> Iterator[None]:
    """Turn what damaged results do to a text that is written from them into a `CheckpointError`."""
    try:
        yield
    except (OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UndefinedError) as error:
        raise CheckpointError(
            f"'{folder.name}' has no figures to report ({type(error).__name__}: {str(error)[:300]}).",
            expected="a checkpoint with config.json and results.json as `bcx train` and `bcx crossval` write them",
            remedy="Train it with bcx train, or fetch it again.",
        ) from error


def results_folder(checkpoint: Path) -> Path | None:
    """Return `results/NAME` beside the folder of checkpoints, or in the current one; None without."""
    checkpoint = checkpoint.resolve()
    for place in (checkpoint.parent.parent, Path.cwd()):
        folder = place / "results" / checkpoint.name
        if any((folder / file).is_file() for file in ("results.json", _TRANSFER)):
            return folder
    return None


def gather(folder: Path) -> Facts:
    """Read what is known about a checkpoint; `CheckpointError` where a file is missing or damaged."""
    folder = folder.resolve()
    task = read_config(folder).task
    with telling_of(folder):
        config, results = (
            _OBJECT.validate_json((folder / f"{name}.json").read_bytes()) for name in ("config", "results")
        )
        measured = results_folder(folder)
        if measured is None:
            return Facts(folder, None, config, results, task, {}, None, None, None)
        study = measured.parent / "studies" / "decisions" / folder.name / "decisions.json"
        files = {
            file: _OBJECT.validate_json(file.read_bytes())
            for file in (*sorted(measured.glob("*.json")), measured / _TRANSFER, study)
            if file.is_file()
        }
        external = {
            file.name: found
            for file, found in files.items()
            if found.get("what") == _ELSEWHERE and found["model"]["name"] == folder.name
        }
        rest = (files.get(file) for file in (measured / "localisation.json", measured / _TRANSFER, study))
        return Facts(folder, measured, config, results, task, external, *rest)
