"""The command line: each command translates what a person asks into one call, and the answer into text.

```
bcx predict scans/ --out results.csv      results for a folder
bcx serve                                 the page, on this machine
bcx explain PATH --out DIR                where it looked, by one method or many, and what each map is worth
bcx info                                  versions, models, threads
bcx data check FOLDER                     what a folder of training images holds
bcx audit FOLDER --out DIR                duplicates, leaking splits and odd files in a folder
bcx train CONFIG.yaml                     train; bcx crossval measures a recipe over grouped folds
bcx compare CONFIG --archs A,B --out DIR  several architectures over the same folds, on one leaderboard
bcx tune CONFIG --fold K --out DIR        search for settings without ever seeing fold K
bcx leak RECIPE --data NAME=DIR           what copies on both sides of a split are worth to a recipe's figures
bcx study explanations --data NAME=DIR    which explanation to trust, on scans with outlines; it can be stopped
bcx study descriptors --data NAME=DIR     what orientation, shape, margin and echoes tell of malignancy
bcx synth study --data NAME=DIR           generated scans, and whether they help a classifier
bcx evaluate --data NAME=DIR --out FILE   what a model is worth on labelled scans
bcx decisions NAME --data NAME=DIR        fit the rule of decision on hospitals never seen
bcx reproduce NAME                        derive a card's figures again, and say which agree
bcx figures NAME                          draw a model's figures
bcx card [NAME ...]                       write model cards from results
bcx export CHECKPOINT                     write its network as a graph, which ONNX Runtime answers with
bcx space OWNER/NAME                      put the page on a Hugging Face Space
bcx push CHECKPOINT OWNER/NAME            put a checkpoint on the Hub
bcx examples examples/                    draw the simulated example scans
```

`bcx COMMAND --help` tells the rest. Exit status: 0 all went well, 1 something failed, 2 wrong usage, 130
stopped by Ctrl-C, 143 stopped by SIGTERM.
Torch and Gradio are imported inside the commands that need them, so that `bcx --help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
import typer.core

import bcx
from bcx.cli.audit import audit
from bcx.cli.compare import compare
from bcx.cli.data import app as data
from bcx.cli.decisions import decisions
from bcx.cli.evaluate import evaluate
from bcx.cli.examples import examples
from bcx.cli.explain import explain
from bcx.cli.export import export
from bcx.cli.info import info
from bcx.cli.input_check import app as input_check
from bcx.cli.leak import leak
from bcx.cli.predict import predict
from bcx.cli.report import card, figures, reproduce
from bcx.cli.space import push, space
from bcx.cli.study import app as study
from bcx.cli.synth import app as synth
from bcx.cli.train import crossval, train
from bcx.cli.tune import tune
from bcx.errors import NO_ROOM, NOT_ALLOWED, BcxError, CheckpointError, ConfigError, output_error

#: Commands that go on where they were when they are called again.
_GO_ON = ("train", "crossval", "compare", "tune", "leak", "study")
#: Commands whose processes, started by `accelerate launch`, share the work.
_TOGETHER = ("train", "crossval")


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: with what is half done put away."""


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run a command; one that is stopped ends in words, and with the status that shells give the signal."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            said = getattr(error, "__notes__", [])
            if not said and ctx.invoked_subcommand in _GO_ON:
                said = ["The same command goes on where it was."]
            typer.echo("\n".join(["bcx: stopped.", *said]), err=True)
            raise typer.Exit(143 if isinstance(error, _Terminated) else 130) from error


@contextmanager
def _terminated_as_stopped() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


app = typer.Typer(
    cls=_Commands,
    name="bcx",
    help="A breast ultrasound classifier that shows where it looked. For research and teaching, never for diagnosis.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(predict)
app.command()(explain)
app.command()(info)
app.command()(train)
app.command()(crossval)
app.command()(compare)
app.command()(tune)
app.command()(leak)
app.command()(evaluate)
app.command()(decisions)
app.command()(card)
app.command()(figures)
app.command()(reproduce)
app.command()(audit)
app.command()(export)
app.command()(space)
app.command()(push)
app.command()(examples)
app.add_typer(data)
app.add_typer(input_check)
app.add_typer(input_check, name="gate", hidden=True, deprecated=True)  # the name before
app.add_typer(study)
app.add_typer(synth)


# The page has one set of options, those of `python demo.py`, so everything after `serve` is handed on as it is.
@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(context: typer.Context) -> None:
    """Open the page on this machine: the same as `python demo.py`, with the same options."""
    from bcx.app.server import main as serve_page

    serve_page(context.args)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bcx {bcx.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options that stand before a command."""
    several = os.environ.get("WORLD_SIZE", "1")  # set by what starts processes that train together
    if several != "1" and context.invoked_subcommand not in _TOGETHER:
        raise ConfigError(
            f"bcx {context.invoked_subcommand} was started in {several} processes.",
            expected=f"one process, or one of the commands that train together: {', '.join(_TOGETHER)}",
            remedy="Start it without accelerate launch.",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with `arguments` (default: those of the process) and exit with its status."""
    try:
        with _terminated_as_stopped():
            app(args=None if arguments is None else list(arguments), prog_name="bcx")
    except BcxError as error:
        typer.echo("\n".join([f"bcx: {error}", *getattr(error, "__notes__", [])]), err=True)
        # A setting or a model that does not exist is a wrong request; anything else went wrong on the way.
        sys.exit(2 if isinstance(error, (ConfigError, CheckpointError)) else 1)
    except OSError as error:  # a disk that is full, a folder that may not be written
        if error.errno not in NO_ROOM | NOT_ALLOWED:
            raise
        typer.echo("\n".join([f"bcx: {output_error(error)}", *getattr(error, "__notes__", [])]), err=True)
        sys.exit(1)
