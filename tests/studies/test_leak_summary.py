"""What a leak is worth: figures as scikit-learn has them, differences that are nought where nothing leaks."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from bcx.data.records import Record
from bcx.errors import DataError
from bcx.evaluate.oof import record_columns
from bcx.studies.leak import leak_columns, read_leak, summarise_leak, write_leak
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")
N = 90  # thirty groups of two, thirty single scans
RECORDS = [Record(Path(f"{i}"), f"a/{i}", TASK.classes[i % 3], f"a:{i % 30 if i < 60 else i}", "a") for i in range(N)]
COPIES = [1 if i < 60 else 0 for i in range(N)]


def rows(protocol, seed, helped):
    """Answers that are right by chance, and right on scans with copies where the leak helps."""
    rng = np.random.default_rng([seed, helped])
    logits = rng.normal(size=(N, 3)).astype(np.float32)
    labels = np.array([TASK.classes.index(record.label) for record in RECORDS])
    logits[np.arange(N), labels] += 1
    if helped:
        logits[np.arange(60), labels[:60]] += 9
    in_training = COPIES if protocol == "random" else [0] * N
    frame = pd.DataFrame(record_columns(RECORDS)).assign(
        protocol=protocol, seed=seed, fold=0, copies=COPIES, copies_in_training=in_training
    )
    frame[[f"logit_{name}" for name in TASK.classes]] = logits
    return frame[leak_columns(TASK)]


@pytest.fixture(scope="module")
def leaking():
    parts = [rows(protocol, seed, protocol == "random") for seed in (0, 1, 2) for protocol in ("random", "grouped")]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def summary(leaking):
    return summarise_leak(leaking, TASK)


def test_figures_are_scikit_learns_over_the_answers_of_all_seeds(leaking, summary):
    for protocol in ("random", "grouped"):
        part = leaking[leaking["protocol"] == protocol]
        labels = part["label"].map(TASK.classes.index).to_numpy()
        probabilities = softmax(part[[f"logit_{name}" for name in TASK.classes]].to_numpy(np.float64), axis=1)
        found = summary["protocols"][protocol]
        assert (found["n"], found["scans"], found["groups"]) == (3 * N, N, 60)
        expected = {
            "accuracy": accuracy_score(labels, probabilities.argmax(1)),
            "balanced_accuracy": balanced_accuracy_score(labels, probabilities.argmax(1)),
            "macro_auc": roc_auc_score(labels, probabilities, multi_class="ovr"),
        }
        for name, value in expected.items():
            assert found["figures"][name]["value"] == pytest.approx(value, abs=1e-6)
        assert np.mean([row["accuracy"] for row in found["seeds"].values()]) == pytest.approx(expected["accuracy"])


def test_the_leak_is_random_minus_grouped_and_found_where_the_copies_are(summary):
    for name in ("accuracy", "macro_auc"):
        random, grouped = (summary["protocols"][p]["figures"][name]["value"] for p in ("random", "grouped"))
        assert summary["leak"][name]["value"] == pytest.approx(random - grouped)
        assert summary["leak"][name]["low"] > 0
    assert summary["leak_copied"]["low"] > 0.2
    assert summary["leak_single"]["low"] < 0 < summary["leak_single"]["high"]


def test_shares_and_accuracies_of_copies(leaking, summary):
    copies = summary["protocols"]["random"]["copies"]
    assert copies["in_training"]["value"] == pytest.approx(2 / 3)
    assert copies["accuracy_with"]["value"] == pytest.approx(copies["accuracy_copied"]["value"])
    assert copies["accuracy_with"]["value"] > 0.99
    grouped = summary["protocols"]["grouped"]["copies"]
    assert grouped["in_training"]["value"] == 0
    assert grouped["accuracy_with"]["value"] is None
    whole = summary["protocols"]["grouped"]["figures"]["accuracy"]["value"]
    mixed = (2 * grouped["accuracy_copied"]["value"] + grouped["accuracy_single"]["value"]) / 3
    assert mixed == pytest.approx(whole)


def test_the_same_answers_under_both_protocols_leak_nothing():
    parts = [rows("random", seed, False) for seed in (0, 1)]
    both = pd.concat([*parts, *(part.assign(protocol="grouped") for part in parts)], ignore_index=True)
    leak = summarise_leak(both, TASK)["leak"]["accuracy"]
    assert leak == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_the_table_reads_back_to_the_bit(leaking, tmp_path):
    write_leak(tmp_path / "p.csv", leaking, TASK)
    pd.testing.assert_frame_equal(read_leak(tmp_path / "p.csv", TASK), leaking, check_dtype=False)


def test_what_does_not_fit_is_told(leaking, tmp_path):
    for wrong, words in (
        (pd.concat([leaking, leaking.head(1)]), "twice"),
        (leaking.drop(columns="copies"), "no column 'copies'"),
        (leaking.assign(label="odd"), "'odd'"),
        (leaking.assign(logit_benign=np.nan), "not a number"),
    ):
        wrong.to_csv(tmp_path / "x.csv", index=False, na_rep="nan")
        with pytest.raises(DataError, match=words):
            read_leak(tmp_path / "x.csv", TASK)
    with pytest.raises(DataError, match="cannot be read"):
        read_leak(tmp_path / "none.csv", TASK)
