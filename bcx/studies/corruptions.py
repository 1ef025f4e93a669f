"""What the fixed suite of corruptions costs: every scan answered as it is and once under each change.

A network must not have been trained on the scans that it answers here. With the networks of a cross-validation, make
one table per fold (`corruption_frame`), join them, and summarise the whole.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcx.data.records import Record, load_mask
from bcx.data.tables import decimal, read_columns
from bcx.errors import DataError
from bcx.evaluate.canvas import CYCLE, paper, publish, styled
from bcx.evaluate.corruptions import CORRUPTIONS, suite_fingerprint
from bcx.evaluate.intervals import bootstrap_intervals, named_triples
from bcx.evaluate.metrics import ranked_auc
from bcx.evaluate.oof import TEXT_COLUMNS, label_positions, record_columns
from bcx.files import AnyPath, whole
from bcx.imaging.preprocess import to_grey
from bcx.imaging.scan import Scan
from bcx.tasks import Task

CLEAN = "clean"
KINDS = (CLEAN, *(corruption.name for corruption in CORRUPTIONS))
FIGURES = ("macro_auc", "lesion_auc", "accuracy")
_ACROSS = 6  # scans in a row of the sheet


def corruption_frame(
    answer: Callable[[Iterable[np.ndarray]], np.ndarray], records: Sequence[Record], task: Task, fold: int = 0
) -> pd.DataFrame:
    """Return one row per scan and change, the unchanged scan ("clean") first; one variant is in memory at a time.

    Columns: `kind`, `file`, `source`, `group`, `fold`, `label` and `p_<class>`, float64. `answer` turns images, uint8
    [H, W], best taken one after the other, into probabilities [N, C]; lesion masks keep crops off the lesion. A task in
    colour is a `DataError`.
    """
    if not task.grey:
        raise DataError(
            f"The task '{task.name}' reads colour.",
            expected="a task on grey scans, which the suite was made for",
            remedy="Leave the corruption suite out.",
        )

    def images() -> Iterable[np.ndarray]:
        for record in records:
            pixels = to_grey(Scan.open(record.file).pixels)
            mask = load_mask(record, pixels.shape)
            yield pixels
            for corruption in CORRUPTIONS:
                yield corruption(pixels, mask)[0]

    frame = pd.DataFrame(record_columns([record for record in records for _ in KINDS]))
    frame[probability_columns(task)] = answer(images())
    frame = frame.assign(kind=KINDS * len(records), fold=fold)
    return frame[["kind", "file", "source", "group", "fold", "label", *probability_columns(task)]]


def probability_columns(task: Task) -> list[str]:
    """Return the columns that hold the probability of each class."""
    return [f"p_{name}" for name in task.classes]


def write_corruption_frame(path: AnyPath, frame: pd.DataFrame) -> None:
    """Write the table as CSV, at once or not at all; seven significant digits of each probability."""
    with whole(path) as partial:
        frame.to_csv(partial, index=False, float_format="%.7g", lineterminator="\n")


def read_corruption_frame(path: AnyPath, task: Task) -> pd.DataFrame:
    """Read what `write_corruption_frame` wrote; a `DataError` where there is no such table or a column is missing."""
    kinds: dict[str, Callable[[str], Any]] = dict.fromkeys(("kind", *TEXT_COLUMNS), str) | {"fold": np.int64}
    kinds |= dict.fromkeys(probability_columns(task), decimal)
    return pd.DataFrame(read_columns(Path(path), kinds, layout=f"a CSV file with the columns {', '.join(kinds)}"))


def summarise_corruptions(frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Return figures and drops per kind, with 95 % intervals from one bootstrap over groups, ready for JSON.

    Drops are the clean figure minus the changed one, of the same resamples. A table with gaps is a `DataError`.

    Returns:
        `n`, `groups`, `suite` (fingerprint); `clean`, the `FIGURES`, each {value, low, high}, None without meaning
        (`lesion_auc`: the positive class against the others without the absent class); `kinds`, a list of {kind,
        sentence, the figures, drop: {figures}} in the order of the suite; `mean_drop`, the mean over the kinds.
    """
    parts = {kind: part.sort_values("file") for kind, part in frame.groupby("kind", sort=False)}
    clean = parts.get(CLEAN)
    if clean is None or set(parts) != set(KINDS) or any(list(p["file"]) != list(clean["file"]) for p in parts.values()):
        raise DataError(
            f"The table of corrupted scans holds the kinds {', '.join(map(str, parts))}, or unlike scans among them.",
            expected=f"every scan once under each of {', '.join(KINDS)}",
            remedy="Run the study again.",
        )
    labels, groups = label_positions(clean, task), clean["group"].to_numpy(str)
    columns = probability_columns(task)
    measures = [_measure(labels, parts[kind][columns].to_numpy(np.float64), task) for kind in KINDS]

    def statistics(weights: np.ndarray) -> np.ndarray:
        found = np.array([measure(weights) for measure in measures])  # [1 + K, 3]
        drops = found[0] - found[1:]
        return np.concatenate([found, drops, drops.mean(axis=0, keepdims=True)]).ravel()

    bounds = [statistics(np.ones(len(labels))), *bootstrap_intervals(statistics, groups)]
    rows = [named_triples(FIGURES, row) for row in np.stack(bounds, axis=1).reshape(-1, len(FIGURES), 3)]
    return {
        "n": len(clean),
        "groups": len(np.unique(groups)),
        "suite": suite_fingerprint(),
        CLEAN: rows[0],
        "kinds": [
            {"kind": corruption.name, "sentence": corruption.sentence, **row, "drop": drop}
            for corruption, row, drop in zip(CORRUPTIONS, rows[1 : len(KINDS)], rows[len(KINDS) : -1], strict=True)
        ],
        "mean_drop": rows[-1],
    }


def lesion_score(probabilities: np.ndarray, task: Task) -> np.ndarray:
    """Return float64 `[N]`: log-odds of the positive class against all others but the absent one."""
    rest = [c for c, name in enumerate(task.classes) if name not in (task.positive, task.absent)]
    pair = np.stack([probabilities[:, task.classes.index(task.positive)], probabilities[:, rest].sum(axis=1)])
    return np.subtract(*np.log(np.maximum(pair, np.finfo(np.float64).tiny)))


def _measure(labels: np.ndarray, probabilities: np.ndarray, task: Task) -> Callable[[np.ndarray], list[float]]:
    """A function from weights [N] to `FIGURES`; nan where one has no meaning."""
    against_rest = [ranked_auc(probabilities[:, c], labels == c) for c in np.unique(labels)]
    lesion = np.array([name != task.absent for name in task.classes])[labels]
    between = ranked_auc(lesion_score(probabilities, task), labels == task.classes.index(task.positive))
    right = probabilities.argmax(axis=1) == labels

    def figures(weights: np.ndarray) -> list[float]:
        accuracy = (weights * right).sum() / weights.sum()
        return [np.mean([area(weights) for area in against_rest]), between(weights * lesion), accuracy]

    return figures


@styled
def write_corruption_sheet(pixels: np.ndarray, path: AnyPath, mask: np.ndarray | None) -> None:
    """Show one scan, uint8 `[H, W]`, as it is and under every corruption, with the outline of its mask, in a PNG.

    A sheet of a patient's scan belongs where that scan may lie, and nowhere else.
    """
    variants = [("as it is", pixels, mask), *((c.name, *c(pixels, mask)) for c in CORRUPTIONS)]
    down = -(-len(variants) // _ACROSS)
    figure, grid = paper(0.98 * _ACROSS, 0.92 * down, down, _ACROSS, bare=True)
    for axes, (name, image, lesion) in zip(grid, variants, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        if lesion is not None and lesion.any():
            axes.contour(lesion, levels=[0.5], colors=CYCLE[4], linewidths=0.5)
        axes.set_title(name, fontsize=4.6, pad=1)
    publish(figure, path)
