"""A small B-mode ultrasound simulator: scans of nobody, for examples and tests.

>>> from bcx.simulate import simulate
>>> scan = simulate("malignant", seed=3, height=96, width=112)
>>> scan.pixels.shape, scan.mask.shape
((96, 112), (96, 112))
"""

from bcx.simulate.formation import LABELS, Simulated, simulate

__all__ = ["LABELS", "Simulated", "simulate"]
