"""Hostile checkpoints: config, weights, input check, graph and results damaged; each answers or is refused by type."""

import json
from contextlib import suppress
from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bcx
from bcx.checkpoints.config import check_config
from bcx.errors import CheckpointError
from tests.fuzz.attacks import CASES, KINDS, outcome
from tests.fuzz.hostile import VALUES, paths_of, spelled

KIND = KINDS["checkpoints"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return KIND.prepare(tmp_path_factory.mktemp("checkpoints"))


@pytest.mark.slow
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=st.integers(0, 2**32 - 1))
def test_a_hostile_checkpoint_answers_or_is_refused(checkpoints, case):
    assert outcome(KIND, checkpoints, case) in ("answered", "CheckpointError")


@pytest.mark.slow
def test_unharmed_each_answers(checkpoints):
    for place in checkpoints:
        assert bcx.load(place).temperature == 1


@pytest.mark.slow
def test_every_key_survives_every_value_and_its_absence(checkpoints):
    """What passes has the same shape as before: another value of the right kind, never a text where a number was."""
    for place in checkpoints:
        tree = json.loads((place / "config.json").read_text())
        for path in list(paths_of(tree)):
            for value in (*VALUES, "absent"):
                changed = deepcopy(tree)
                parent = changed
                for key in path[:-1]:
                    parent = parent[key]
                if value == "absent":
                    del parent[path[-1]]
                else:
                    parent[path[-1]] = value
                with suppress(CheckpointError):
                    found = check_config(place, spelled(changed))
                    assert 0.05 <= found.bcx.temperature <= 20
                    assert type(found.bcx.preprocess.grey) is bool
