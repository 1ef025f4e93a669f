"""`bcx explain`: a sheet per scan of where the network looked, by one method or many, and what each is worth."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

import bcx
from bcx import DEFAULT_MODEL
from bcx.cli.options import ColoursOption, ContourOption, DeviceOption
from bcx.cli.outputs import new_file
from bcx.cli.progress import counted
from bcx.errors import BcxError, check_name, writing
from bcx.imaging.style import MapStyle
from bcx.inference.input_files import base_name, find


def explain(
    paths: Annotated[list[str], Argument(metavar="PATH", help="Files, ZIP archives, folders or globs.")],
    out: Path = Option(..., "--out", "-o", help="A folder: per scan a sheet (PNG) and the numbers (JSON)."),
    model: str = Option(DEFAULT_MODEL, "--model", "-m", help="A model's name, its folder, or a Hub id."),
    methods: str = Option(
        "exact",
        help="'quick', 'all' (five more, up to minutes each), or names with commas: exact, grad-cam, layercam ...",
    ),
    target: str | None = Option(None, "--class", help="The class; default: the one that is answered."),
    colours: ColoursOption = "signed",
    contour: ContourOption = False,
    check: bool = Option(False, "--check", help="Also test each map; this makes it some six times more."),
    device: DeviceOption = "auto",
) -> None:
    """Show where the network looked. Exit status 1 when some file failed, 2 for wrong usage."""
    style = MapStyle(colours, contour)
    listing = find(paths, leave_out=[out])
    from bcx.explain.checks import check as check_map
    from bcx.explain.checks import likeness
    from bcx.explain.descriptors import describe_lesion
    from bcx.explain.methods import METHODS, check_method, quick_methods
    from bcx.explain.methods import explain as explain_scan
    from bcx.explain.sheet import draw_sheet

    sets = {"all": list(METHODS), "quick": quick_methods()}
    wanted = sets.get(methods) or [name.strip() for name in methods.split(",")]
    for name in wanted:
        check_method(name)
    classifier = bcx.load(model)
    if target is not None:
        check_name(target, classifier.classes, "class")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    failed = 0
    with counted(len(wanted) * len(listing.pictures), what="maps") as on_map:
        for found in listing.pictures:
            sheet = out / f"{base_name(found.inside, taken)}_explained.png"
            try:
                prediction = replace(classifier.predict(found.source, found.inside.name), style=style)
                maps, checks = [], {}
                for method in wanted:
                    maps.append(explain_scan(classifier, prediction, target, method))
                    if check:
                        checks[method] = check_map(classifier, maps[-1])
                    on_map()
                lesion = describe_lesion(prediction)
                rows = []
                for each in maps:
                    alike = {one.method: round(likeness(each.map, one.map), 3) for one in maps if one is not each}
                    checked = checks[each.method].to_dict() if check else None
                    rows.append({**each.to_dict(), "likeness": alike, "checks": checked})
                content: dict[str, Any] = {"file": os.fspath(found.file), "answer": prediction.to_dict()}
                content |= {"lesion": lesion.to_dict() if lesion else None, "methods": rows}
                with new_file(sheet.with_suffix(".json")) as partial:
                    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
                draw_sheet(maps, checks, sheet)
            except BcxError as error:
                failed += 1
                typer.echo(f"{found.file}: {error}".encode("utf-8", "backslashreplace").decode(), err=True)
    said = [f"{len(listing.pictures) - failed} explained", f"{failed} failed", listing.skipped]
    typer.echo(f"{', '.join(part for part in said if part)}; in {out}.", err=True)
    if failed:
        raise typer.Exit(1)
