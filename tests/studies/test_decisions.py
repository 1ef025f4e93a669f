"""The rule of decision, fitted and judged in hospitals that no network saw."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import bcx
from bcx.checkpoints.checkpoint import load_checkpoint, update_config
from bcx.cli.main import app
from bcx.data.readers import read_source
from bcx.errors import DataError
from bcx.evaluate.derived import derive
from bcx.evaluate.metrics import REFERRED
from bcx.evaluate.oof import write_oof
from bcx.studies.decisions import (
    Elsewhere,
    decisions_study,
    fit_elsewhere,
    fresh_answers,
    stated_prevalence,
    transfer_answers,
)
from bcx.tasks import get_task
from bcx.train.provenance import write_json
from bcx.trust.calibration import apply_temperature
from tests.conftest import few_resamples
from tests.layouts import write_breast_folder, write_busbra_folder, write_busi_folder

_few = pytest.fixture(scope="module", autouse=True)(few_resamples)
TASK = get_task("breast-ultrasound")
LOGITS = [f"logit_{name}" for name in TASK.classes]
TRAINED = {"first": {"classes": {"normal": 20, "benign": 50, "malignant": 30}}}
CHECKPOINT = SimpleNamespace(task=TASK, name="x", training={"data": TRAINED})
BEFORE = {
    "temperature": 0.8,
    "decisions": {
        "operating_point": {"normal_above": 0.24, "positive_above": 0.33, "positive": 2},
        "refer": {"below": 0.68, "confidence": "highest", "accuracy": None, "coverage": None},
    },
}


def answers_to(hospital: str, seed: int, per_class: int = 80, clear: float = 2.5) -> Elsewhere:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], per_class)
    logits = rng.normal(0, 1.5, (len(labels), 3)) + clear * np.eye(3)[labels]
    frame = pd.DataFrame(
        {
            "file": [f"{hospital}/{n}.png" for n in range(len(labels))],
            "source": hospital,
            "group": [f"{hospital}:{n // 2}" for n in range(len(labels))],
            "fold": 0,
            "label": [TASK.classes[label] for label in labels],
        }
    )
    for view in ("logit", "mirror_logit"):
        frame[[f"{view}_{name}" for name in TASK.classes]] = logits.astype(np.float32)
    return Elsewhere(frame, "networks")


def study(hospitals: dict[str, Elsewhere]) -> dict:
    return decisions_study(CHECKPOINT, hospitals, None, BEFORE)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def hospitals() -> dict[str, Elsewhere]:
    return {
        name: answers_to(name, seed, clear=clear) for seed, (name, clear) in enumerate({"a": 2.5, "b": 1.8}.items())
    }


@pytest.fixture(scope="module")
def found(hospitals) -> dict:
    return study(hospitals)


def row_of(found: dict, hospital: str, rule: str, point: str = "default") -> dict:
    return next(r for r in found["table"] if (r["hospital"], r["rule"], r["point"]) == (hospital, rule, point))


def test_a_hospital_is_judged_by_what_was_fitted_on_the_others(found, hospitals):
    temperature, rule = fit_elsewhere([hospitals["b"]], TASK, ())
    row = row_of(found, "a", "by the other hospitals")
    assert row["temperature"] == pytest.approx(temperature)
    frame = hospitals["a"].frame
    probabilities = apply_temperature(frame[LOGITS].to_numpy(), temperature)
    labels, reasons = rule.decide(probabilities)
    answered, ill = reasons == 0, (frame["label"] == "malignant").to_numpy()
    assert row["as_absent"]["value"] == pytest.approx((answered & (labels == 0))[ill].mean())
    assert row["as_other"]["value"] == pytest.approx((answered & (labels == 1))[ill].mean())
    assert row["referred"]["value"] == pytest.approx((~answered).mean())
    changed = dict(hospitals)
    changed["a"] = answers_to("a", 7, clear=1.0)
    again = study(changed)
    assert row_of(again, "a", "by the other hospitals")["temperature"] == row["temperature"]
    assert again["temperature"] != found["temperature"]


def test_the_stored_rule_meets_its_targets_on_the_mean_of_the_hospitals(found):
    rows = [row_of(found, name, "as stored") for name in "ab"]
    for figure, target in found["targets"].items():
        assert np.mean([row[figure]["value"] for row in rows]) <= target + 1e-9
    sensitivity = [row_of(found, name, "as stored", "screening")["called"]["value"] for name in "ab"]
    assert np.mean(sensitivity) == pytest.approx(0.95, abs=0.02)
    false_alarms = [row_of(found, name, "as stored", "rule-in")["false_alarms"]["value"] for name in "ab"]
    assert np.mean(false_alarms) <= 0.05 + 1e-9
    assert found["rule"]["prevalence"] == pytest.approx((0.2, 0.5, 0.3))


def test_the_rule_before_is_judged_as_it_was_stored(found, hospitals):
    frame = hospitals["a"].frame
    p = apply_temperature(frame[LOGITS].to_numpy(), 0.8)
    said = np.where(p[:, 0] >= 0.24, 0, np.where(p[:, 2] >= 0.33 * (1 - p[:, 0]), 2, 1))
    said[p.max(axis=1) < 0.68] = REFERRED
    row = row_of(found, "a", "before")
    ill = (frame["label"] == "malignant").to_numpy()
    assert row["missed"]["value"] == pytest.approx(np.isin(said[ill], [0, 1]).mean())
    assert row["referred"]["value"] == pytest.approx((said == REFERRED).mean())


def test_a_large_hospital_weighs_as_much_as_a_small_one(hospitals):
    large = hospitals["b"].frame
    copies = [large.assign(file=large["file"] + f"-{n}") for n in range(4)]
    many = Elsewhere(pd.concat(copies, ignore_index=True), "")
    few, more = (fit_elsewhere([hospitals["a"], each], TASK, ()) for each in (hospitals["b"], many))
    assert more[0] == pytest.approx(few[0], abs=1e-5)
    assert more[1].negative_below == pytest.approx(few[1].negative_below, abs=1e-5)


def test_one_hospital_is_not_enough(hospitals):
    with pytest.raises(DataError, match="answers to 1 hospital"):
        study({"a": hospitals["a"]})


def test_classes_that_a_network_never_learned_are_left_out_and_most_training_wins(tmp_path):
    whole, more = answers_to("a", 0), answers_to("a", 1)
    for name, answers, n_train, classes in (
        ("b", whole, 100, ["benign", "malignant"]),
        ("b-and-c", more, 300, ["benign", "malignant"]),
    ):
        folder = tmp_path / f"hospital-{name}"
        folder.mkdir()
        write_oof(folder / "oof.csv", answers.frame, TASK)
        write_json(folder / "run.json", {"n_train": n_train, "classes": classes})
    found = transfer_answers(tmp_path, TASK)["a"]
    assert (len(found.frame), found.left_out) == (160, 80)
    assert found.frame["logit_benign"].to_numpy() == pytest.approx(more.frame["logit_benign"].to_numpy()[80:])
    assert transfer_answers(tmp_path / "none", TASK) == {}


def test_what_was_trained_on_is_no_hospital_elsewhere(tiny_checkpoint, tmp_path):
    checkpoint = dataclasses.replace(load_checkpoint(tiny_checkpoint), training={"data": {"breast": {}}})
    records = read_source("breast", write_breast_folder(tmp_path, cases=3), task=TASK)
    with pytest.raises(DataError, match="was trained on breast"):
        fresh_answers(checkpoint, records)
    assert stated_prevalence(dataclasses.replace(checkpoint, training={})) == []


@pytest.mark.slow
def test_the_command_fits_stores_and_goes_on_from_its_own_answers(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = shutil.copytree(tiny_checkpoint, tmp_path / "tiny")
    update_config(model, training={"data": TRAINED}, decisions=BEFORE["decisions"])
    write_breast_folder("breast", cases=12)
    write_busbra_folder("busbra", patients=6)
    write_busi_folder("busi", per_class=4)
    command = ["decisions", str(model), "--data", "breast=breast", "--data", "busbra=busbra", "--out", "study"]
    told = CliRunner().invoke(app, [*command, "--store"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    found = json.loads((tmp_path / "study" / "decisions.json").read_text())
    assert set(found["hospitals"]) == set(found["data"]) == {"breast", "busbra"}
    assert found["before"]["decisions"] == BEFORE["decisions"]
    assert str(tmp_path) not in json.dumps(found)
    assert Image.open(tmp_path / "study" / "decisions.png").width > 500
    table = pd.read_csv(tmp_path / "study" / "decisions.csv")
    assert set(table["rule"]) == {"before", "by the other hospitals", "as stored"}
    classifier = bcx.load(model, prevalence={"malignant": 0.02}, operating_point="rule-in")
    assert classifier.temperature == pytest.approx(found["temperature"])
    # once more with a third hospital: the answers to the first two are kept, and so is what was stored before
    patients = ["decisions", str(model), "--patients", "busbra", "--out", "study"]
    assert CliRunner().invoke(app, patients).exit_code == 0
    assert json.loads((tmp_path / "study" / "patients.json").read_text())["table"][0]["where"] == "elsewhere"
    again = CliRunner().invoke(app, ["decisions", str(model), "--data", "clinic=busi", "--out", "study"])
    assert again.exit_code == 0, again.output
    later = json.loads((tmp_path / "study" / "decisions.json").read_text())
    assert set(later["hospitals"]) == {"breast", "busbra", "clinic"}
    assert later["before"] == found["before"]
    first, second = (
        next(r["missed"] for r in each["table"] if (r["hospital"], r["rule"]) == ("busbra", "before"))
        for each in (found, later)
    )
    assert first == second


@pytest.mark.slow
def test_a_rule_that_is_stored_decides_the_models_own_scans_too(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, home = shutil.copytree(tiny_checkpoint, tmp_path / "tiny"), answers_to("a", 0).frame
    home["fold"] = home["group"].factorize()[0] % 4
    update_config(model, training={"data": TRAINED})
    write_oof(model / "oof.csv", home, TASK)
    write_json(model / "results.json", {"what": "a cross-validation", **derive(home, TASK)})
    write_breast_folder("breast", cases=12)
    write_busbra_folder("busbra", patients=6)
    command = ["decisions", str(model), "--data", "breast=breast", "--data", "busbra=busbra", "--out", "study"]
    told = CliRunner().invoke(app, [*command, "--store"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    found, results = (json.loads(Path(file).read_text()) for file in ("study/decisions.json", "tiny/results.json"))
    assert results["what"] == "a cross-validation"
    assert results["decisions"]["rules"] == {"rule": found["rule"]}
    row = next(r for r in found["table"] if (r["where"], r["rule"], r["point"]) == ("home", "as stored", "default"))
    assert results["decisions"]["sources"]["a"]["referred"] == row["referred"]
    assert results["temperature"] == pytest.approx(derive(home, TASK)["temperature"]), (
        "that of its own scans, to compare"
    )
