"""Copies, leaks and odd files in a folder of images: `bcx audit`."""

from bcx.audit.findings import Audit
from bcx.audit.run import audit

__all__ = ["Audit", "audit"]
