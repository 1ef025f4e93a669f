"""Everything that is known about one model, gathered from its files: no figure in a card comes from elsewhere."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter

from bcx.checkpoints.config import read_config
from bcx.data.tables import read_table
from bcx.errors import BcxError, DataError, loading
from bcx.evaluate.derived import BY_HOSPITAL
from bcx.tasks import Task

FIGURES, OOF = "figures", "oof.csv"
_ELSEWHERE = "a checkpoint's answers to labelled scans"
_TRANSFER = Path("transfer", "results.json")
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True)
class Facts:
    """One model's files, read; None for those that are not at hand."""

    folder: Path  # of the checkpoint
    measured: Path | None  # the folder of its results, `results/NAME`
    config: dict[str, Any]  # config.json
    results: dict[str, Any]  # results.json; without figures where nothing was measured
    task: Task
    external: dict[str, dict[str, Any]]  # by the file's name: results of `bcx evaluate` on scans from elsewhere
    places: dict[str, Any] | None  # out-of-fold localisation of `bcx evaluate --crossval`
    transfer: dict[str, Any] | None  # results of leaving hospitals and scanners out
    decisions: dict[str, Any] | None  # of `bcx decisions`: the rule of decision in hospitals never seen

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
        expected = f"{OOF} in results/{self.name} or beside the weights"
        remedy = "Run bcx crossval, or fetch the checkpoint with all its files."
        raise DataError(f"There are no out-of-fold answers of '{self.name}'.", expected=expected, remedy=remedy)

    def histories(self) -> dict[str, list[dict[str, str]]]:
        """Return the rows of each fold's history.csv, or of the shipped network's where there are none."""
        folds = [] if self.measured is None else sorted(self.measured.glob("fold-*/history.csv"))
        files = {file.parent.name.replace("-", " "): file for file in folds}
        files = files or {"the shipped model": self.folder / "history.csv"}
        layout = "a row for each epoch of a training"
        tables = {run: read_table(file, ("epoch",), layout=layout) for run, file in files.items() if file.is_file()}
        return {run: [row for _, row in table.rows] for run, table in tables.items()}


def telling_of(folder: Path) -> AbstractContextManager[None]:
    """Turn what damaged results do to a text that is written from them into a `CheckpointError`."""
    expected = "a checkpoint with config.json and results.json as `bcx train` and `bcx crossval` write them"
    return loading(f"'{folder.name}' has no figures to report", expected, (BcxError,))


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
        elsewhere = {file.name: found for file, found in files.items() if found.get("what") == _ELSEWHERE}
        external = {name: found for name, found in elsewhere.items() if found["model"]["name"] == folder.name}
        rest = (files.get(file) for file in (measured / "localisation.json", measured / _TRANSFER, study))
        return Facts(folder, measured, config, results, task, external, *rest)
