"""Figures that need the scans themselves: how bright they are, what augmentation makes of them, and the answers.

Where the scans are patients', so are the images: they go into the folder that is named, never into a repository.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bcx.data.records import Record, load_mask
from bcx.errors import ConfigError, DataError
from bcx.evaluate import figures_data as figures
from bcx.evaluate.oof import label_positions, logits_of, read_oof
from bcx.imaging.preprocess import resize, to_grey
from bcx.imaging.scan import Scan
from bcx.inference.classifier import Classifier
from bcx.report.facts import Facts
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature
from bcx.trust.rule import Decider

#: Most confident mistakes that are shown, answers in the grid, variants of a scan.
MISTAKES, GRID, VARIANTS = 12, 25, 7
_OWN = "maps of the fold's own network, which never saw the scan"
_SHIPPED = "maps of the shipped network, which has seen the scan"


def refuse_repository(folder: Path) -> None:
    """Raise `ConfigError` where a folder for images of patients is inside a git checkout."""
    for place in (folder.resolve(), *folder.resolve().parents):
        if (place / ".git").exists():
            met = f"'{folder}' lies inside a git checkout ('{place.name}')."
            expected = "a folder outside of it: pictures of patients do not belong into a repository"
            raise ConfigError(met, expected=expected, remedy="Name another folder, such as one in your home.")


def draw_intensity(records: Sequence[Record], task: Task, path: Path, on_scan: Callable[[], object]) -> None:
    """Draw how bright the scans of each class are; no scan can be told from it."""

    def scans() -> Iterator[tuple[str, np.ndarray]]:
        for record in records:
            yield record.label, Scan.open(record.file).pixels
            on_scan()

    figures.intensity_figure(scans(), task, path)


def draw_pictures(facts: Facts, records: Sequence[Record], folder: Path) -> list[Path]:
    """Draw augmentation samples, the surest mistakes with their maps, and a grid of answers; return the files.

    The answers are those given out of fold, by the stored rule of decision. Scans that are not in that table are left
    out: `DataError` where that is all. `ConfigError` for a folder in a git checkout.
    """
    refuse_repository(folder)
    frame, classes = read_oof(facts.tables()[0], facts.task), facts.task.classes
    known = {record.key: record for record in records}
    frame = frame[frame["file"].isin(list(known))].reset_index(drop=True)
    if frame.empty:
        found = f"None of the {len(records)} scans is among those that '{facts.name}' answered out of fold."
        remedy = "Name them with --data as bcx crossval was given them."
        raise DataError(found, expected="the sources of its cross-validation, under the same names", remedy=remedy)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [known[key] for key in frame["file"]]
    probabilities = apply_temperature(logits_of(frame, facts.task), facts.results["temperature"])
    answers = Decider(facts.config["bcx"].get("decisions"), facts.task).choose(probabilities)
    labels = label_positions(frame, facts.task)
    sure = probabilities[np.arange(len(answers)), answers]

    def answer(row: int) -> figures.Answer:
        pixels = Scan.open(rows[row].file).pixels
        return figures.Answer(pixels, classes[labels[row]], classes[answers[row]], float(sure[row]))

    # of one lesion only the surest mistake: near-duplicates would fill the sheet
    wrong = frame.assign(sure=sure)[answers != labels].sort_values("sure", ascending=False, kind="stable")
    shown = wrong.drop_duplicates("group").index[:MISTAKES]
    written = _augmented(facts, rows, folder)
    if len(shown):
        place = facts.measured or facts.folder
        folders = [place / f"fold-{frame['fold'][row]}" / "network" for row in shown]
        if not (own := all((each / "config.json").is_file() for each in folders)):
            folders = [facts.folder] * len(shown)
        networks = {each: Classifier(each) for each in set(folders)}
        pictures = []
        for row, network in zip(shown, folders, strict=True):
            prediction = networks[network].predict(rows[row].file)
            pictures.append(replace(answer(row), values=prediction.maps[answers[row]], limit=prediction.map_limit))
        written.append(folder / "mistakes.png")
        figures.mistakes_figure(pictures, written[-1], _OWN if own else _SHIPPED)
    written.append(folder / "answers.png")
    grid = np.random.default_rng(0).permutation(len(answers))[:GRID]
    figures.answers_figure([answer(row) for row in grid], written[-1])
    return written


def _augmented(facts: Facts, records: Sequence[Record], folder: Path) -> list[Path]:
    from bcx.train.augment import OVERSIZE, Augmentation

    block = facts.config["bcx"]
    size = int(block["preprocess"]["size"])
    warp = Augmentation(facts.task.augmentation, size, float(block["training"]["recipe"]["augment"]))
    side = round(size * OVERSIZE)
    written = []
    firsts = {record.label: record for record in reversed(records)}
    for name in filter(firsts.__contains__, facts.task.classes):
        record = firsts[name]
        pixels = Scan.open(record.file).pixels
        plane = resize(to_grey(pixels) if facts.task.grey else pixels, side, side)
        mask = load_mask(record, pixels.shape)
        squashed = None if mask is None else (resize(mask.astype(np.float32), side, side) >= 0.5).astype(np.uint8)
        samples = {f"variant {k}": warp(plane, squashed, seed=k)[0] for k in range(1, VARIANTS + 1)}
        written.append(folder / f"augmentation-{name}.png")
        figures.augmentation_figure(plane, samples, written[-1])
    return written
