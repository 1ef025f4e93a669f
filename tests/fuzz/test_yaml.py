"""Hostile recipes: damaged by their values and by their text, each is read or refused by type."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.attacks import CASES, KINDS, outcome

KIND = KINDS["yaml"]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    return KIND.prepare(tmp_path_factory.mktemp("recipes"))


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=st.integers(0, 2**32 - 1))
def test_a_hostile_recipe_is_read_or_refused(recipes, case):
    assert outcome(KIND, recipes, case) in ("answered", "ConfigError")
