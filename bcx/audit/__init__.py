"""Copies, leaks and odd files in a folder of images: `bcx audit`.

>>> import tempfile
>>> from bcx.simulate import write_busi_folder
>>> with tempfile.TemporaryDirectory() as folder:
...     found = audit(write_busi_folder(folder, per_class=1, duplicates=1), network=False)
>>> [group.files for group in found.groups][0]
('benign/benign (1).png', 'benign/benign (2).png')
"""

from bcx.audit.findings import Audit, Pair
from bcx.audit.grouping import Group
from bcx.audit.matching import Match
from bcx.audit.oddities import Odd
from bcx.audit.run import audit

__all__ = ["Audit", "Group", "Match", "Odd", "Pair", "audit"]
