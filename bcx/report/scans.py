"""Figures that need the scans themselves: how bright they are, what augmentation makes of them, and the answers.

Where the scans are patients', so are the images: they go into the folder that is named, never into a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bcx.data.records import Record, load_mask
from bcx.errors import ConfigError, DataError
from bcx.evaluate.figures_data import (
    Answer,
    IntensityTally,
    answers_figure,
    augmentation_figure,
    intensity_figure,
    mistakes_figure,
)
from bcx.evaluate.oof import label_positions, logits_of, read_oof
from bcx.imaging.preprocess import resize, to_grey
from bcx.imaging.scan import Scan
from bcx.report.facts import Facts
from bcx.report.reproduce import oof_file
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature
from bcx.trust.decider import Decider

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier

#: Most confident mistakes that are shown, answers in the grid, variants of a scan.
MISTAKES, GRID, VARIANTS = 12, 25, 7
_OWN = "maps of the fold's own network, which never saw the scan"
_SHIPPED = "maps of the shipped network, which has seen the scan"


def refuse_repository(folder: Path) -> None:
    """Raise `ConfigError` where a folder for images of patients is inside a git checkout."""
    for place in (folder.resolve(), *folder.resolve().parents):
        if (place / ".git").exists():
            raise ConfigError(
                f"'{folder}' lies inside a git checkout ('{place.name}').",
                expected="a folder outside of it: pictures of patients do not belong into a repository",
                remedy="Name another folder, such as one in your home.",
            )


def draw_intensity(
    records: Sequence[Record], task: Task, path: Path, on_scan: Callable[[], object] = lambda: None
) -> None:
    """Draw how bright the scans of each class are; no scan can be told from it."""
    tally = IntensityTally(task.classes)
    for record in records:
        tally.add(record.label, Scan.open(record.file).pixels)
        on_scan()
    intensity_figure(tally, task, path)


def draw_pictures(
    facts: Facts, records: Sequence[Record], folder: Path, on_scan: Callable[[], object] = lambda: None
) -> list[Path]:
    """Draw augmentation samples, the most confident mistakes with their maps, and a grid of right and wrong answers.

    The answers are those that were given out of fold: by the stored rule of decision.

    Args:
        records: scans; those that are not in its out-of-fold table are left out, `DataError` where that is all.
        folder: outside of any git checkout.
        on_scan: called after each map that had to be made.

    Returns:
        The files written.
    """
    refuse_repository(folder)
    frame = read_oof(oof_file(facts), facts.task)
    known = {record.key: record for record in records}
    rows = np.flatnonzero(frame["file"].isin(list(known)).to_numpy())
    if not len(rows):
        raise DataError(
            f"None of the {len(records)} scans is among those that '{facts.name}' answered out of fold.",
            expected="the sources of its cross-validation, under the same names",
            remedy="Name them with --data as bcx crossval was given them.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    frame = frame.iloc[rows].reset_index(drop=True)
    written = _augmented(facts, [known[key] for key in frame["file"]], folder)
    probabilities = apply_temperature(logits_of(frame, facts.task), facts.results["temperature"])
    answers = Decider(facts.config["bcx"].get("decisions"), facts.task).choose(probabilities)
    labels = label_positions(frame, facts.task)
    sure = probabilities[np.arange(len(answers)), answers]
    wrong = np.flatnonzero(answers != labels)
    # of one lesion only the surest mistake: near-duplicates would fill the sheet
    ranked = wrong[np.argsort(-sure[wrong], kind="stable")]
    groups = frame["group"].to_numpy(str)
    _, first = np.unique(groups[ranked], return_index=True)
    shown = ranked[np.sort(first)][:MISTAKES]
    grid = np.random.default_rng(0).permutation(len(answers))[:GRID]

    def answer(row: int) -> Answer:
        pixels = Scan.open(known[frame["file"][row]].file).pixels
        names = facts.task.classes
        return Answer(pixels, names[labels[row]], names[answers[row]], float(sure[row]))

    if len(shown):
        maps, whose = _maps(facts, frame, known, shown, answers, on_scan)
        pictures = [
            replace(answer(row), values=values, limit=limit) for row, (values, limit) in zip(shown, maps, strict=True)
        ]
        written.append(folder / "mistakes.png")
        mistakes_figure(pictures, written[-1], whose)
    written.append(folder / "answers.png")
    answers_figure([answer(row) for row in grid], written[-1])
    return written


def _augmented(facts: Facts, records: Sequence[Record], folder: Path) -> list[Path]:
    from bcx.train.augment import OVERSIZE, Augmentation

    block = facts.config["bcx"]
    recipe = block["training"]["recipe"]
    size = int(block["preprocess"]["size"])
    warp = Augmentation(facts.task.augmentation, size, float(recipe["augment"]))
    side = round(size * OVERSIZE)
    written = []
    for name in facts.task.classes:
        record = next((record for record in records if record.label == name), None)
        if record is None:
            continue
        pixels = Scan.open(record.file).pixels
        plane = resize(to_grey(pixels) if facts.task.grey else pixels, side, side)
        mask = load_mask(record, pixels.shape)
        squashed = None if mask is None else (resize(mask.astype(np.float32), side, side) >= 0.5).astype(np.uint8)
        samples = {f"variant {k}": warp(plane, squashed, seed=k) for k in range(1, VARIANTS + 1)}
        written.append(folder / f"augmentation-{name}.png")
        augmentation_figure(plane, samples, written[-1])
    return written


def _maps(
    facts: Facts,
    frame: pd.DataFrame,
    known: dict[str, Record],
    rows: np.ndarray,
    answers: np.ndarray,
    on_scan: Callable[[], object],
) -> tuple[list[tuple[np.ndarray, float]], str]:
    """The map of each row's answer, float32 [H, W], with the end of its scale; and whose maps these are."""
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.inference.classifier import Classifier

    folders = [] if facts.measured is None else [facts.measured / f"fold-{k}" / "network" for k in frame["fold"][rows]]
    own = bool(folders) and all((folder / "config.json").is_file() for folder in folders)
    networks: dict[Path, Classifier] = {}
    found = []
    for number, row in enumerate(rows):
        folder = folders[number] if own else facts.folder
        if folder not in networks:
            networks[folder] = Classifier(load_checkpoint(folder))
        prediction = networks[folder].predict(known[frame["file"][row]].file)
        found.append((prediction.maps[answers[row]], prediction.map_limit))
        on_scan()
    return found, _OWN if own else _SHIPPED
