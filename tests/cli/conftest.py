"""Run `bcx` as a person runs it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bcx.cli import main as cli


@pytest.fixture
def run(capfd):
    """Run `bcx` with arguments; returns status, out, err."""

    def run(*arguments: object) -> SimpleNamespace:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return SimpleNamespace(status=caught.value.code or 0, out=out, err=err)

    return run
