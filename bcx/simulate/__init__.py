"""A small B-mode ultrasound simulator: scans of nobody, for examples and tests.

>>> from bcx.simulate import simulate
>>> scan = simulate("malignant", seed=3, height=96, width=112)
>>> scan.label, scan.pixels.shape
('malignant', (96, 112))
"""

from bcx.simulate.formation import LABELS, Simulated, simulate
from bcx.simulate.layouts import EXAMPLES, write_breast_folder, write_busbra_folder, write_busi_folder, write_examples

__all__ = [
    "EXAMPLES",
    "LABELS",
    "Simulated",
    "simulate",
    "write_breast_folder",
    "write_busbra_folder",
    "write_busi_folder",
    "write_examples",
]
