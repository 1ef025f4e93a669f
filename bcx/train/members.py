"""Train what a recipe describes: one network, or the members of an ensemble one after the other.

fitted = fit_network(recipe, training_records, out=Path("runs/both"))
fitted.network         # one network, or a `LesionEnsemble`
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bcx.checkpoint import load_checkpoint, save_checkpoint
from bcx.data.records import Record
from bcx.ensemble import LesionEnsemble, PictureShare
from bcx.tasks import get_task
from bcx.train.config import Recipe
from bcx.train.fit import STATE_FILE, Fitted, fit, run_fingerprint
from bcx.train.provenance import current_commit, read_json, write_json

#: Folder of a network inside a run's folder.
NETWORK = "network"
_MEMBER = "member-{}"


def fit_network(
    recipe: Recipe,
    train: Sequence[Record],
    inner: Sequence[Record] = (),
    *,
    out: Path,
    on_epoch: Callable[[dict[str, Any], int], None] | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Fitted:
    """Train by a recipe, as `bcx.train.fit.fit`; where it has members, train each in a folder of its own.

    A member that is finished (`member-K/run.json` belongs to its recipe and these scans) is not trained again, so that
    a member may come from an earlier run, and another be added to it. Its weights are those of its checkpoint, whose
    large tensors are rounded (see `bcx.checkpoint`).

    Args:
        recipe, train, inner, out, on_epoch, on_batch: as `fit`. With members, the history's rows have `member`.

    Raises:
        As `fit`.
    """
    members = recipe.member_recipes()
    if not members:
        return fit(recipe, train, inner, out=out, on_epoch=on_epoch, on_batch=on_batch)
    task = get_task(recipe.task)
    epochs = sum(member.epochs for member in members)
    networks, history = [], []
    for number, member in enumerate(members):
        folder = out / _MEMBER.format(number)
        fingerprint = run_fingerprint(member, train, inner)
        if not _is_done(folder, fingerprint):

            def report(row: dict[str, Any], _: int, number: int = number) -> None:
                if on_epoch:
                    on_epoch({"member": number, **row}, epochs)

            started, commit = time.perf_counter(), current_commit()
            fitted = fit(member, train, inner, out=folder, on_epoch=report, on_batch=on_batch)
            save_checkpoint(folder / NETWORK, fitted.network, task=task, preprocess=fitted.preprocess)
            note = {"fingerprint": fingerprint, "n_train": len(train), "n_inner": len(inner), "commit": commit}
            note["seconds"] = round(time.perf_counter() - started, 1)
            write_json(folder / "run.json", {**note, "history": fitted.history})
            (folder / STATE_FILE).unlink()
        kept = load_checkpoint(folder / NETWORK)
        networks.append(kept.network)
        history += [{"member": number, **row} for row in read_json(folder / "run.json").get("history", [])]
    share = PictureShare(**recipe.picture.model_dump())
    return Fitted(LesionEnsemble(networks, share), kept.preprocess, history)


def member_seconds(out: Path) -> float:
    """Return the seconds that the members in a run's folder took; 0 where it has none."""
    return sum(read_json(note)["seconds"] for note in sorted(out.glob(f"{_MEMBER.format('*')}/run.json")))


def remove_members(out: Path) -> None:
    """Remove the members' folders, once what was made of them is stored."""
    for folder in out.glob(_MEMBER.format("*")):
        shutil.rmtree(folder)


def _is_done(folder: Path, fingerprint: str) -> bool:
    note = folder / "run.json"
    kept = (folder / NETWORK / "config.json").is_file()
    return kept and note.is_file() and read_json(note)["fingerprint"] == fingerprint
