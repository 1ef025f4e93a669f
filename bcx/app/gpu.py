"""ZeroGPU: a Space that lends a GPU for the length of one call."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

#: Whether this runs on a Hugging Face Space: names that are burnt into scans are not shown there.
ON_A_SPACE = "SPACE_ID" in os.environ


def on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with a GPU lent by ZeroGPU; without the `spaces` package, `function` itself."""
    if find_spec("spaces") is None:
        return function
    import spaces

    return spaces.GPU(function)
