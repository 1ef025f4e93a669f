"""`bcx info`: what is installed and at hand, for a bug report or before a long run.

>>> installed("no-such-package") is None
True
"""

from __future__ import annotations

import os
import platform
from importlib import metadata

# What decides the figures, the page and the formats that can be read.
PACKAGES = (
    "torch", "torchvision", "timm", "gradio", "numpy", "opencv-python-headless", "pillow", "scikit-learn",
    "albumentations", "accelerate", "onnxruntime", "onnx", "pydicom", "pylibjpeg",
)  # fmt: skip


def installed(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def info() -> None:
    """Print versions, models and threads."""
    import torch
    from rich.console import Console
    from rich.table import Table

    import bcx
    from bcx.checkpoints.checkpoint import list_checkpoints

    versions = Table("package", "version", title="Versions", title_justify="left")
    versions.add_row("bcx", bcx.__version__)
    versions.add_row("Python", platform.python_version())
    for package in PACKAGES:
        versions.add_row(package, installed(package) or "not installed")

    models = Table("name", "folder", title="Models", title_justify="left")
    for name, folder in list_checkpoints().items():
        models.add_row(f"{name} (default)" if name == bcx.DEFAULT_MODEL else name, os.fspath(folder))

    machine = Table("what", "value", title="Machine", title_justify="left")
    machine.add_row("processors", str(os.cpu_count()))
    machine.add_row("threads of torch", str(torch.get_num_threads()))
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    machine.add_row("accelerator", str(accelerator or "none"))

    console = Console(soft_wrap=True)
    for table in (versions, models, machine):
        console.print(table)
