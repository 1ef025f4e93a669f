"""`bcx export`: write a checkpoint's network as one graph, which ONNX Runtime answers with."""

from __future__ import annotations

from typing import Annotated

import typer


def export(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint: its name or folder.")],
) -> None:
    """Write model.onnx beside a checkpoint's weights, so that `bcx[fast]` answers sooner.

    The file takes its place once its answers agree with torch's. Export again after the weights have changed.
    """
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.checkpoints.onnx_export import export_onnx

    file = export_onnx(load_checkpoint(checkpoint))
    typer.echo(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB) is beside the weights in {file.parent}.")
