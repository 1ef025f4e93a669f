"""Names that moved to `bcx.evaluate.intervals` and `bcx.evaluate.metrics`."""

from bcx.evaluate.intervals import means_with_intervals as means_with_intervals
from bcx.evaluate.metrics import or_none as or_none
