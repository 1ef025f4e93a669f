"""Hostile tables: damaged by their cells and by their bytes, each is read or refused by type."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.attacks import CASES, KINDS, outcome

KIND = KINDS["csv"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return KIND.prepare(tmp_path_factory.mktemp("tables"))


@pytest.mark.slow
@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=st.integers(0, 2**32 - 1))
def test_a_hostile_table_is_read_or_refused(tables, case):
    assert outcome(KIND, tables, case) in ("answered", "DataError", "ConfigError", "SplitError")
