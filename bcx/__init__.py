"""bcx: a breast ultrasound classifier that shows where it looked, how sure it is, and when not to believe it.

```python
import bcx

classifier = bcx.load()  # the shipped model
prediction = classifier.predict("examples/simulated-benign-1.png")
print(prediction.label, prediction.probabilities, prediction.decision)
prediction.overlay("malignant").save("overlay.png")
```

For research and teaching, never for diagnosis.

>>> import bcx
>>> bcx.DEFAULT_MODEL
'mobilenetv2-hospitals'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bcx.telemetry import switch_off_telemetry

if TYPE_CHECKING:
    from bcx.errors import BcxError
    from bcx.imaging.scan import Scan
    from bcx.inference.classifier import Classifier, load
    from bcx.inference.prediction import Failure, Prediction

switch_off_telemetry()

__version__ = "0.1.0"
DEFAULT_MODEL = "mobilenetv2-hospitals"

__all__ = ["DEFAULT_MODEL", "BcxError", "Classifier", "Failure", "Prediction", "Scan", "__version__", "load"]

# Where each public name lives. Loaded at first use, so that `import bcx` costs milliseconds: torch alone takes seconds.
_HOMES = {
    "BcxError": "bcx.errors",
    "Classifier": "bcx.inference.classifier",
    "Failure": "bcx.inference.prediction",
    "Prediction": "bcx.inference.prediction",
    "Scan": "bcx.imaging.scan",
    "load": "bcx.inference.classifier",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bcx' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
