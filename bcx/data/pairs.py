"""`NAME=DIR`, as people give sources on the command line.

>>> parse_pair("busi=scans")[0]
'busi'
"""

from __future__ import annotations

from pathlib import Path

from bcx.errors import ConfigError


def parse_pair(text: str) -> tuple[str, Path]:
    """Split `NAME=DIR`.

    Raises:
        ConfigError: no name, no folder, or no '=' between them.
    """
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise ConfigError(
            f"'{text}' does not name a source and its folder.",
            expected="NAME=DIR, such as busi=Dataset_BUSI_with_GT",
            remedy="Put a name and '=' before the folder.",
        )
    return name, Path(folder)
