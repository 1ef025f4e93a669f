"""Judge a trained generator against the scans that it learnt from, and against those that it never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.data.records import Record
from bcx.errors import DataError
from bcx.networks.build import build_network
from bcx.studies.synthesis.fit import class_records, gan_fingerprint, read_planes
from bcx.studies.synthesis.pictures import write_beside
from bcx.studies.synthesis.quality import Describe, describer, judge
from bcx.studies.synthesis.sample import Generator
from bcx.tasks import get_task
from bcx.train.config import Recipe
from bcx.train.heads import make_preprocess

#: Pictures are judged with a seed that no training of a classifier uses.
JUDGED_SEED = 1_000_003


def build_describers(checkpoint: str | None, start: Recipe) -> dict[str, Describe]:
    """Return the networks that describe pictures, by name.

    Args:
        checkpoint: one of the project's own; None leaves it out.
        start: gives architecture and starting weights of a second network, which has seen no scans ("timm" or a file of
            ImageNet weights); with random weights it is left out, unless it would be the only one.

    Raises:
        CheckpointError, ConfigError: a network that cannot be had.
    """
    found: dict[str, Describe] = {}
    if checkpoint is not None:
        loaded = load_checkpoint(checkpoint)
        found[loaded.name] = describer(loaded.network, loaded.preprocess)
    if start.init != "scratch" or not found:
        task = get_task(start.task)
        network = build_network(start.arch, len(task.classes), init=start.init).eval()
        # At the side that ImageNet's weights were trained at, whatever the classifier's own.
        preprocess = make_preprocess(start.model_copy(update={"size": 224}), network, task)
        found[f"{start.arch} as it starts"] = describer(network, preprocess)
    return found


def scans_of(generator: Generator, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Return the scans of the generator's class that it learnt from, and those of the fold that it never saw.

    Raises:
        DataError: these are not the scans that it learnt from.
    """
    fold = generator.about["fold"]
    used = [record for record in records if record.fold is not None]
    train = class_records([record for record in used if record.fold != fold or fold is None], generator.label)
    if gan_fingerprint(generator.recipe, train) != generator.about["fingerprint"]:
        raise DataError(
            f"The {len(train)} scans of '{generator.label}' are not those that this generator learnt from.",
            expected=f"the {generator.about['n_train']} scans of its training, under the same names",
            remedy="Name the same sources with --data as in `bcx synth train`.",
        )
    held = [record for record in used if record.fold == fold and record.label == generator.label]
    return train, held


def judge_generator(
    generator: Generator,
    records: Sequence[Record],
    describers: Mapping[str, Describe],
    *,
    seed: int = JUDGED_SEED,
    count: int | None = None,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Generate pictures and judge them, all at the generator's own size.

    Args:
        seed, count: of the pictures; by default as many as training scans.
        sheet: where a sheet of real, generated and nearest scans goes; it shows patients' scans.

    Returns:
        Ready for JSON: `size`, `generated`, `train`, `held` (numbers of pictures), `copies` (flagged by any network or
        by the pixels), `flagged` (their positions) and `by` network (see `bcx.studies.synthesis.quality.judge`).

    Raises:
        DataError: as `scans_of`.
    """
    train, held = scans_of(generator, records)
    planes = read_planes(train, generator.recipe.size)
    others = read_planes(held, generator.recipe.size) if len(held) > 1 else None
    made = generator.sample(count or len(train), seed)
    judged = judge(made, planes, [record.group for record in train], others, describers)
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        write_beside(planes, made, sheet, generator.label, planes[judged.neighbours.nearest])
    numbers = {"size": generator.recipe.size, "generated": len(made), "train": len(train), "held": len(held)}
    flagged = [int(position) for position in np.flatnonzero(judged.copies)]
    return {**numbers, "copies": len(flagged), "flagged": flagged, "by": judged.report}
