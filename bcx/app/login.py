"""A login before every address of the page: HTTP Basic, which browsers, curl, gradio_client and MCP clients all speak.

Names and passwords come from a file or from the environment, never from the command line, which everybody on the
machine can read. Whatever leads to the page must be encrypted: Basic sends the password with each request.
"""

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from bcx.errors import ConfigError

#: The environment variable that is read where no file is named.
VARIABLE = "BCX_LOGIN"
#: Characters of a password at least.
SHORTEST = 8


class Login:
    def __init__(self, text: str, where: str) -> None:
        """Read a line `name:password` for each person, or # and a comment; no `ConfigError` shows a line of `where`."""
        self._known = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, password = line.strip().partition(":")
            if not name or len(password) < SHORTEST:
                raise _wrong(f"Line {number} of {where} is no login.")
            self._known.append(_digest(f"{name}:{password}".encode()))
        if not self._known:
            raise _wrong(f"There is no login in {where}.")

    def lets_in(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request with these headers (lower case) may pass; as slow for a wrong login as for a right one.

        Browsers send it along even where another site asks for it; such a request passes only where it opens the page.
        """
        if headers.get(b"sec-fetch-site") == b"cross-site" and headers.get(b"sec-fetch-mode") != b"navigate":
            return False
        scheme, _, sent = headers.get(b"authorization", b"").partition(b" ")
        try:
            asked = _digest(base64.b64decode(sent.strip(), validate=True))
        except binascii.Error:
            return False
        fits = sum(secrets.compare_digest(asked, known) for known in self._known)  # all of them, whichever fits
        return fits > 0 and scheme.lower() == b"basic"


def read_login(file: str | None) -> Login | None:
    """Return the login in a file, else in `VARIABLE`; None where neither is given, and everybody may use the page."""
    if file is not None:
        try:
            return Login(Path(file).read_text("utf-8-sig"), f"'{file}'")
        except (OSError, UnicodeDecodeError) as error:
            raise _wrong(f"'{file}' cannot be read ({type(error).__name__}).") from error
    text = os.environ.get(VARIABLE)
    return None if text is None else Login(text, f"the environment variable {VARIABLE}")


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()  # all of one length, so that a comparison tells nothing about a password's


def _wrong(found: str) -> ConfigError:
    return ConfigError(
        found,
        expected=f"a line name:password for each person, with {SHORTEST} characters or more in the password",
        remedy=f"Write such a file and name it with --login, or set {VARIABLE}.",
    )
