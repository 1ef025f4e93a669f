"""Where networks run."""

import ctypes
import sys

from bcx.errors import ConfigError, check_name

#: The allocator of most Linux systems, which can be told what to keep; None elsewhere.
GLIBC = ctypes.CDLL(None) if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim") else None

DEVICES = ("auto", "cpu", "cuda", "mps")

_of_process = "auto"


def use_device(name: str) -> str:
    """Set what "auto" means from now on in this process, as a command's `--device` does; return `name`."""
    global _of_process
    if name != "auto":  # else torch, which takes seconds to import, is not needed yet
        pick_device(name)
    _of_process = name
    return name


def wanted_device() -> str:
    """Return what this process was told by `use_device`, else "auto"."""
    return _of_process


def pick_device(wanted: str = "auto") -> str:
    """Return "cpu", "cuda" or "mps"; `ConfigError` for another word, or a device that this computer does not have.

    "auto" is what `use_device` said, else CUDA where there is any, else the CPU; Apple's MPS only answers when it is
    asked for, since nobody has compared its answers yet.
    """
    check_name(wanted, DEVICES, "device")
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    here = ["cpu", *["cuda"] * cuda, *["mps"] * mps]
    asked = _of_process if wanted == "auto" else wanted
    if asked == "auto":
        return "cuda" if cuda else "cpu"
    if asked not in here:
        built = "" if asked != "cuda" or torch.version.cuda else ", a build without CUDA"
        raise ConfigError(
            f"The device '{asked}' is not here. Found: {', '.join(here)} (torch {torch.__version__}{built}).",
            expected="a device that torch can use on this machine",
            remedy="Use --device auto, or install the driver and the build of torch for it.",
        )
    return asked


def computes_bf16(device: str) -> bool:
    """Return whether "cpu", "cuda" or "mps" multiplies in bfloat16 itself: emulated, it is slower than float32."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # new in torch 2.11
        return any(able for name, able in torch.cpu.get_capabilities().items() if "bf16" in name)
    return True
