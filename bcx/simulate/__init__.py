"""A small B-mode ultrasound simulator: scans of nobody, for examples and tests.

>>> from bcx.simulate import simulate
>>> scan = simulate("malignant", seed=3, height=96, width=112)
>>> scan.label, scan.pixels.shape
('malignant', (96, 112))
"""

from bcx.simulate.formation import LABELS, Simulated, simulate

__all__ = ["LABELS", "Simulated", "simulate"]
