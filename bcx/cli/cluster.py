"""`bcx predict --engine ray`: the same rows from many machines, in shards."""

from __future__ import annotations

import collections
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from bcx.cli.progress import counted
from bcx.errors import ConfigError


def predict_on_ray(
    paths: Sequence[str],
    model: str,
    out: Path | None,
    options: Mapping[str, Any],
    *,
    form: str,
    address: str | None,
    resume: bool,
) -> bool:
    """Answer scans on a Ray cluster; return whether some failed.

    Args:
        paths: files, folders, globs and tables, here or behind URLs.
        model: as in `bcx predict`.
        out: folder or URL of the shards.
        options: of `bcx.load`.
        form: parquet or csv.
        address: of the cluster; None: one on this machine.
        resume: keep the shards that are there.

    Raises:
        ConfigError: `out` or `form` does not fit, or as `bcx.inference.batches.run`.
    """
    from bcx.inference.batches import FORMS, Job, run
    from bcx.inference.shards import is_url, plan_shards

    if out is None or out.suffix or out.is_file():
        raise ConfigError(
            "--engine ray writes shards.",
            expected="a folder or URL after --out",
            remedy="Add for example --out results.",
        )
    if form not in FORMS:
        raise ConfigError(
            f"--shards is '{form}'.", expected=f"one of {', '.join(FORMS)}", remedy="Leave it out for Parquet."
        )
    shards = plan_shards(paths)
    import bcx

    classifier = bcx.load(model, **options)  # on this machine, so that what does not fit is told at once
    # Workers have other current folders; and a path makes one slash of the two in s3://.
    place = re.sub(r"^([a-z0-9]{2,}):/+", r"\1://", str(out))
    place = place if is_url(place) else os.path.abspath(place)
    named = os.path.abspath(model) if os.path.isdir(model) else model
    job = Job(named, classifier.weights_sha256, place, form, dict(options))
    begun, tally, kept = time.perf_counter(), collections.Counter[str](), 0
    total = sum(shard.count for shard in shards)
    with counted(total) as on_scan:
        for done in run(job, shards, address=address, resume=resume):
            for _ in range(done["scans"]):
                on_scan()
            kept += done["scans"] if done.get("kept") else 0
            tally.update(done["decisions"], failed=done["failed"])
    seconds = time.perf_counter() - begun
    said = [f"{total} scans in {len(shards)} shards in {seconds:.1f} s ({(total - kept) / seconds:.1f}/s)"]
    said += [f"{kept} of them answered before"] if kept else []
    said += [f"{count} {name}" for name, count in sorted(tally.items()) if count and name != "failed"]
    said += [f"{tally['failed']} could not be read"] if tally["failed"] else []
    typer.echo(f"{'; '.join(said)}; written to {out}.\nFor research and teaching, never for diagnosis.", err=True)
    return tally["failed"] > 0
