"""The study of explanations: a balanced sample, rows that are kept, figures from rows, and the page's table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bcx
from bcx.data.readers import read_source
from bcx.explain.checks import ALIKE, MORE_THAN_ELSEWHERE
from bcx.explain.methods import METHODS
from bcx.studies import explanations
from bcx.studies.explanations import (
    CONTROL,
    UNSMOOTHED,
    explanation_study,
    sample,
    summarise,
    table,
    table_of_sets,
    write_explanations_figure,
)
from bcx.tasks import get_task

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "results" / "studies" / "explanations"


@pytest.fixture(scope="module")
def records(busi_folder):
    task = get_task("breast-ultrasound")
    return sample(read_source("mine", busi_folder, task=task), 3, task)


@pytest.fixture
def one_method(monkeypatch):
    monkeypatch.setattr(explanations, "METHODS", {"exact": METHODS["exact"]})


def test_the_sample_takes_the_classes_in_turn_and_only_scans_with_an_outline(records):
    assert [record.label for record in records] == ["benign", "malignant", "benign"]
    assert all(record.masks for record in records)


@pytest.mark.usefixtures("one_method")
def test_rows_that_are_there_are_not_made_again(records, tiny_lesion_checkpoint, tmp_path):
    classifier, made = bcx.load(tiny_lesion_checkpoint), []
    file = tmp_path / "explanations.csv"
    first = explanation_study(classifier, records[:2], file, 0, 0, lambda: made.append(1))
    assert len(first) == len(made) == 6  # a map, the same not smoothed, and the control, twice
    assert first["mirror"].isna().all()
    again = explanation_study(classifier, records, file, 1, 0, lambda: made.append(1))
    assert len(again) == 9
    assert len(made) == 10, "a third scan, and the first one's stability and sanity"
    assert again["mirror"].notna().sum() == 1
    assert set(again["method"]) == {CONTROL, UNSMOOTHED, "exact"}
    sharp, smooth = (again[again["method"] == name]["road"].to_numpy() for name in (UNSMOOTHED, "exact"))
    assert not np.array_equal(sharp, smooth)
    assert again[again["method"] == CONTROL]["heat_inside"].between(0, 1).all()


def test_figures_follow_from_the_rows_and_intervals_from_the_groups():
    rng = np.random.default_rng(0)
    columns = explanations._MEASURED
    rows = [
        {"file": f"{place}.png", "group": f"{place}", "method": method, **dict(zip(columns, numbers, strict=True))}
        for method in (CONTROL, "exact", "grad-cam")
        for place, numbers in enumerate(rng.random((12, len(columns))))
    ]
    frame = pd.DataFrame(rows)
    found = summarise({"mine": frame})
    exact, other = (frame[frame["method"] == name].reset_index() for name in ("exact", "grad-cam"))
    figure = found["methods"]["exact"]["here_more"]
    assert figure["value"] == pytest.approx((exact["drop_here"] - exact["drop_elsewhere"]).mean())
    assert figure["low"] < figure["value"] < figure["high"]
    gap = found["methods"]["grad-cam"]["less_than_exact"]["road"]["value"]
    assert gap == pytest.approx((exact["road"] - other["road"]).mean())
    control = frame[frame["method"] == CONTROL]
    assert found["chance"]["road"] == pytest.approx(np.quantile(control["road"], 0.95), abs=1e-4)


def stored(folder: Path) -> dict[str, pd.DataFrame]:
    return {file.stem: pd.read_csv(file) for file in sorted(folder.glob("*.csv"))}


def test_the_pages_tables_are_those_of_the_results(tmp_path):
    page = (ROOT / "docs" / "explanation" / "which-explanation.md").read_text("utf-8")
    for folder in (STORED, STORED / "whole-image"):
        results = json.loads((folder / "explanations.json").read_text("utf-8"))
        assert table(results) in page
        counts = pd.concat(stored(folder)).groupby("method").size()
        assert {name: row["scans"] for name, row in results["methods"].items()} == counts.to_dict()
        write_explanations_figure(results, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert table_of_sets(json.loads((STORED / "explanations.json").read_text("utf-8"))) in page


def test_the_verdicts_limits_are_those_of_the_study():
    frame = pd.concat(stored(STORED))
    more = frame["drop_here"] - frame["drop_elsewhere"]
    control, exact = (frame["method"] == name for name in (CONTROL, "exact"))
    assert pytest.approx(more[control].quantile(0.8), abs=0.005) == MORE_THAN_ELSEWHERE
    page = (ROOT / "docs" / "explanation" / "which-explanation.md").read_text("utf-8").replace("\n", " ")
    both = (more >= MORE_THAN_ELSEWHERE) & (frame["road"] > 0)
    assert f"{100 * both[control].mean():.0f} % of another scan's maps" in page
    assert f"and {100 * both[exact].mean():.0f} % of the exact maps do" in page
    assert set(ALIKE) == set(METHODS)
    frames = frame, pd.concat(stored(STORED / "whole-image"))
    for kind, alike in enumerate(each.groupby("method")["other_scan"].quantile(0.95).dropna() for each in frames):
        assert {name: ALIKE[name][kind] for name in alike.index} == pytest.approx(alike.to_dict(), abs=0.006)
    checked = frame[frame["random_network"].notna()]
    counts = checked[checked["method"] == "exact"]["file"].str.split("/").str[0].value_counts().to_dict()
    assert counts == {"breast": 40, "busi": 20, "busbra": 20}
    assert "all 40 of BrEaST and the first 20 of each of the others" in page
    for name, share in (("exact", "11 % of the exact maps"), ("grad-cam++", "9 % of Grad-CAM++'s")):
        rows = checked[checked["method"] == name]
        assert f"{100 * (rows['random_network'] >= ALIKE[name][0]).mean():.0f} %" == share[: share.index("%") + 1]
        assert share in page
