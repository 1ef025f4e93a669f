"""The command line: each command translates what a person asks into one call, and the answer into text.

Exit status: 0 all went well, 1 something failed, 2 wrong usage, 130 stopped by Ctrl-C, 143 stopped by SIGTERM.
Torch and Gradio are imported inside the commands that need them, so that `bcx --help` answers at once.
"""

import os
import platform
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from typing import Any

import typer
import typer.core

import bcx
from bcx.cli import data, explain, models, predict, studies, synth, train
from bcx.cli.evaluate import evaluate
from bcx.errors import NO_ROOM, NOT_ALLOWED, BcxError, CheckpointError, ConfigError, MissingExtra, output_error

#: Commands that go on where they were when they are called again.
_GO_ON = ("train", "crossval", "compare", "tune", "leak", "study")
#: Commands whose processes, started by `accelerate launch`, share the work.
_TOGETHER = ("train", "crossval")
#: Packages of the extra 'train'.
_TRAIN = {"accelerate", "albumentations", "onnx", "optuna", "pandas"}
#: Packages that decide the figures, the page and the formats that can be read.
_PACKAGES = (
    "torch", "torchvision", "timm", "gradio", "numpy", "opencv-python-headless", "pillow", "scikit-learn",
    "albumentations", "accelerate", "onnxruntime", "onnx", "pydicom", "pylibjpeg",
)  # fmt: skip


#: Whether SIGTERM stopped the command, as Ctrl-C does. Not asked of the exception, which libraries raise anew.
_terminated = threading.Event()


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
            raise typer.Exit(143 if _terminated.is_set() else 130) from error
        except ModuleNotFoundError as error:
            if error.name not in _TRAIN:
                raise
            found = f"This needs the package '{error.name}', which is not installed."
            raise MissingExtra.named("train", found) from error


@contextmanager
def _terminated_as_stopped() -> Iterator[None]:
    def stop(*_: object) -> None:
        _terminated.set()
        raise KeyboardInterrupt

    _terminated.clear()
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


def info() -> None:
    """Print versions, models and threads."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from bcx.checkpoints.checkpoint import list_checkpoints

    versions = {"bcx": bcx.__version__, "Python": platform.python_version()} | dict.fromkeys(_PACKAGES, "not installed")
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    default = bcx.DEFAULT_MODEL
    models = {f"{name} (default)" if name == default else name: path for name, path in list_checkpoints().items()}
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    threads = {"processors": os.cpu_count(), "threads of torch": torch.get_num_threads()}
    machine = {**threads, "accelerator": accelerator or "none"}
    for title, heads, rows in (
        ("Versions", ("package", "version"), versions),
        ("Models", ("name", "folder"), models),
        ("Machine", ("what", "value"), machine),
    ):
        table = Table(*heads, title=title, title_justify="left")
        for name, value in rows.items():
            table.add_row(name, str(value))
        Console(soft_wrap=True).print(table)


for _command in (
    *(predict.predict, explain.explain, info, train.train, train.crossval, train.compare, train.tune, train.leak),
    *(evaluate, studies.decisions, models.card, models.figures, models.reproduce, data.audit, models.export),
    *(models.space, models.push, data.examples),
):
    app.command()(_command)
app.add_typer(data.app)
app.add_typer(studies.input_check)
app.add_typer(studies.input_check, name="gate", hidden=True, deprecated=True)  # the name before
app.add_typer(studies.study)
app.add_typer(synth.app)


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
        found = f"bcx {context.invoked_subcommand} was started in {several} processes."
        expected = f"one process, or one of the commands that train together: {', '.join(_TOGETHER)}"
        raise ConfigError(found, expected=expected, remedy="Start it without accelerate launch.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with `arguments` (default: those of the process) and exit with its status."""
    try:
        with _terminated_as_stopped():
            app(args=None if arguments is None else list(arguments), prog_name="bcx")
    except (BcxError, OSError) as error:
        said: Exception = error
        if isinstance(error, OSError):  # a disk that is full, a folder that may not be written
            if error.errno not in NO_ROOM | NOT_ALLOWED:
                raise
            said = output_error(error)
        typer.echo("\n".join([f"bcx: {said}", *getattr(error, "__notes__", [])]), err=True)
        # A setting or a model that does not exist is a wrong request; anything else went wrong on the way.
        sys.exit(2 if isinstance(said, (ConfigError, CheckpointError)) else 1)
