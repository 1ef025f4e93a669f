"""What commands tell on standard error: what is done of how much, the time left, and which files were left out."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import typer
from rich import progress as rich
from rich.console import Console


def name_left_out(left_out: Iterable[tuple[str, str]]) -> None:
    for file, why in left_out:
        typer.echo(f"left out: {file}: {why}".encode("utf-8", "backslashreplace").decode(), err=True)


def bars(*, lasting: bool = False, quiet: bool = False) -> rich.Progress:
    """Return bars on standard error with the time left; lasting ones stay at the end, with the time that it took."""
    columns = [rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn()]
    columns += [rich.TimeElapsedColumn()] if lasting else []
    columns += [rich.TimeRemainingColumn(), rich.TextColumn("left")]
    return rich.Progress(*columns, console=Console(stderr=True, quiet=quiet), transient=not lasting)


@contextmanager
def training_bar(
    steps: int, *, quiet: bool = False
) -> Iterator[tuple[Callable[[Iterable[str], Mapping[str, Any], int], None], Callable[[], None]]]:
    """Show a lasting bar of training steps; give what prints an epoch (`tell_epoch`), and what moves it on by one."""
    with bars(lasting=True, quiet=quiet) as progress:
        bar = progress.add_task("training", total=steps)
        yield partial(tell_epoch, progress), partial(progress.advance, bar)


@contextmanager
def counted(total: int, done: int = 0, *, what: str = "scans") -> Iterator[Callable[[], None]]:
    with bars() as progress:
        yield partial(progress.advance, progress.add_task(what, total=total, completed=done))


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each stage of a piece of work, as it is told: (stage, done, total)."""
    with bars() as progress:
        known: defaultdict[str, rich.TaskID] = defaultdict(lambda: progress.add_task(""))
        yield lambda stage, done, total: progress.update(known[stage], description=stage, completed=done, total=total)


def tell_epoch(progress: rich.Progress, where: Iterable[str], row: Mapping[str, Any], epochs: int) -> None:
    """Print a line about an epoch: `where` says whose it is, `row` is that of a training's history."""
    parts = [*where, *(f"{part} {row[part]}" for part in ("member", "training") if part in row), "epoch"]
    watched = f", inner AUC {row['inner_roc_auc']:.3f}" if row.get("inner_roc_auc") is not None else ""
    progress.console.print(
        f"{', '.join(parts)} {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, "
        f"accuracy {row['train_accuracy']:.3f}{watched}, {row['seconds']:.0f} s",
        highlight=False,
    )
