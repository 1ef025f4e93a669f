"""Copies, leaks and odd files in a folder of images: `bcx audit`."""

from bcx.audit.findings import Audit, Group, Pair
from bcx.audit.matching import Match
from bcx.audit.oddities import Odd
from bcx.audit.run import audit

__all__ = ["Audit", "Group", "Match", "Odd", "Pair", "audit"]
