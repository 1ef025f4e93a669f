"""Simulated scans in BUSI's layout, as training takes them."""

import pytest

from bcx.data.readers import read_source
from bcx.data.splits import assign_folds
from bcx.tasks import get_task
from tests.conftest import few_resamples

_few = pytest.fixture(scope="module", autouse=True)(few_resamples)


@pytest.fixture(scope="session")
def records(busi_folder):
    """Twelve scans, four of each class, in two folds."""
    return assign_folds(read_source("mine", busi_folder, task=get_task("breast-ultrasound")), k=2)
