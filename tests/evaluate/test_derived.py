"""What results.json holds beside its headline figures: curves as numbers, decisions made without the fold itself."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from bcx.evaluate.derived import DERIVED, decide, derive, fit_decisions, noted_scans
from bcx.evaluate.oof import oof_columns, view_probabilities
from bcx.tasks import get_task
from tests.conftest import few_resamples
from tests.evaluate.test_curves import net_benefit

_few = pytest.fixture(scope="module", autouse=True)(few_resamples)

TASK = get_task("breast-ultrasound")


def table(count: int = 90, classes: tuple[int, ...] = (0, 1, 2), source: str = "busi") -> pd.DataFrame:
    rng = np.random.default_rng(3)
    labels = rng.choice(classes, count)
    logits = 2.5 * rng.normal(size=(count, 3)) + 3 * np.eye(3)[labels]
    about = {
        "file": [f"{source}/{i}.png" for i in range(count)],
        "source": np.where(np.arange(count) % 3 == 0, "other", source),
        "group": [f"g{i}" for i in range(count)],
        "fold": np.arange(count) % 4,
        "label": [TASK.classes[c] for c in labels],
    }
    return pd.DataFrame(about | {name: logits[:, i % 3] for i, name in enumerate(oof_columns(TASK)[5:])})


@pytest.fixture(scope="module")
def derived() -> tuple[pd.DataFrame, dict]:
    frame = table()
    return frame, derive(frame, TASK, {"some": ["busi/1.png"]})


def test_everything_is_json_and_named(derived):
    _, found = derived
    json.dumps(found, allow_nan=False)
    assert set(found) == set(DERIVED)


def test_curves_say_what_scikit_learn_and_the_formula_say(derived):
    frame, found = derived
    probabilities = view_probabilities(frame, TASK, found["temperature"])[0]
    chosen = decide(frame, TASK, fit_decisions(frame, TASK, found["temperature"])[0])[0]
    labels = np.array([TASK.classes.index(name) for name in frame["label"]])
    for source in ("busi", "other"):
        rows = (frame["source"] == source).to_numpy()
        risk = found["risk_coverage"][source]
        assert risk["answered"][-1] == 1
        assert risk["wrong"][-1] == pytest.approx(1 - sk.accuracy_score(labels[rows], chosen[rows]), abs=1e-5)
        benefit = found["decision_curve"][source]
        expected = [net_benefit(probabilities[rows, 2], labels[rows] == 2, t) for t in benefit["threshold"]]
        assert benefit["net_benefit"] == pytest.approx(expected, abs=1e-5)


def test_logits_that_are_too_sure_become_reliable(derived):
    _, found = derived
    for reports in found["reliability"].values():
        assert reports["temperature"]["log_loss"]["value"] < reports["none"]["log_loss"]["value"]


def test_a_set_without_normals_has_no_decisions():
    found = derive(table(60, (1, 2)), TASK)
    assert "decisions" not in found
    assert found["risk_coverage"]["busi"]["answered"][-1] == 1


def test_scans_of_the_armpit_are_those_of_the_manifest():
    assert noted_scans(["clinic/a.png"]) is None
    from bcx.data.busi import busi_rows

    keys = [f"busi/{row.file}" for row in busi_rows()]
    assert len(noted_scans(keys)["axilla"]) == 27
