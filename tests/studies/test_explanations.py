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


@pytest.mark.slow
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
    control = again[again["method"] == CONTROL]
    assert control["heat_inside"].between(0, 1).all()
    exact = again[again["method"] == "exact"]
    assert exact["road_other"].to_list() == control["road"].to_list(), "of another scan, the exact map is the control"


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


@pytest.mark.slow
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
    assert counts == {"breast": 20, "busi": 20, "busbra": 20}
    assert "measured on the first 20 of each" in page
    said = {
        "exact": "{} % of the exact maps are like",
        "grad-cam++": "{} % of Grad-CAM++'s",
        "hirescam": "{} % of HiResCAM's",
    }
    for name, words in said.items():
        alike = checked[checked["method"] == name]["random_network"] >= ALIKE[name][0]
        assert words.format(f"{100 * alike.mean():.0f}") in page
    rows = checked[checked["method"] == "eigen-cam"]
    unstable = rows[["mirror", "noise", "zoom"]].min(axis=1) < ALIKE["eigen-cam"][0]
    assert f"{100 * unstable.mean():.0f} % of Eigen-CAM's are not stable" in page


#: Figures of which a larger one is better.
LARGER = ("pointing", "heat_inside", "iou", "road", "road_gain", "deletion_gain", "insertion_gain", "here_more")


def _more(less_than_exact: dict) -> bool:
    """Whether a method gains more in ROAD than the exact map."""
    return less_than_exact["road_gain"]["high"] < 0


def test_what_the_page_says_of_the_exact_map_is_measured():
    stored_figures = json.loads((STORED / "explanations.json").read_text("utf-8"))
    results, sets = stored_figures["methods"], stored_figures["sets"]
    page = (ROOT / "docs" / "explanation" / "which-explanation.md").read_text("utf-8").replace("\n", " ")

    def gap(name: str, key: str, sign: int = 1) -> str:
        figure = results[name]["less_than_exact"][key]
        low, high = sorted(sign * figure[end] for end in ("low", "high"))
        return f"{sign * figure['value']:.2f} ({low:.2f} to {high:.2f})"

    assert f"raises ROAD by {gap(UNSMOOTHED, 'road')} and the IoU by {gap(UNSMOOTHED, 'iou')}" in page
    assert f"costs energy in the lesion, {gap(UNSMOOTHED, 'heat_inside', -1)}" in page
    assert f"{gap('hirescam', 'heat_inside')} more than HiResCAM" in page
    better = (
        f"HiResCAM is better by {gap('hirescam', 'road', -1)}, LayerCAM by {gap('layercam', 'road', -1)}, XGrad-CAM by "
    )
    assert f"{better}  {gap('xgrad-cam', 'road', -1)}, most of it in BUSI" in page
    rows = pd.concat(stored(STORED)).groupby("method")["road_other"].mean()
    broad, other = {f"{rows[name]:.2f}" for name in ("layercam", "hirescam")}, f"{rows['exact']:.2f}"
    assert f"maps still score {broad.pop()}, the exact ones {other}" in page
    assert not broad
    level = f"HiResCAM has {gap('hirescam', 'road_gain')} less, LayerCAM {gap('layercam', 'road_gain')} less"
    assert level in page
    every = {name: row["less_than_exact"] for name, row in results.items() if name in METHODS and name != "exact"}
    ahead = {(name, key) for name, gap in every.items() for key in LARGER if gap[key]["high"] < 0}
    assert ahead == {(name, "road") for name in ("hirescam", "layercam", "xgrad-cam")}
    slow = {name: results[name] for name in every if METHODS[name].slow}
    assert {row["scans"] for row in slow.values()} == {6}
    occlusion = results["occlusion"]["road"]
    assert f"(ROAD {occlusion['value']:.2f} ({occlusion['low']:.2f} to {occlusion['high']:.2f}))" in page
    assert f"a map takes {slow['occlusion']['seconds']['value']:.0f} s" in page
    assert round(slow["score-cam"]["seconds"]["value"] / 60) == 2
    gaps = {name: gap for name, gap in every.items() if name not in slow}
    assert all(gap["heat_inside"]["low"] > 0 for gap in every.values()), "the most energy in the lesion"
    more = {(key, name) for key, part in sets.items() for name in gaps if _more(part[name]["less_than_exact"])}
    assert more == {("busi", "eigengrad-cam")}
    assert sets["busi"]["eigengrad-cam"]["pointing"]["value"] == 0.5, "half of the time"
    assert all(gap[key]["high"] > 0 for gap in gaps.values() for key in ("deletion_gain", "insertion_gain", "iou"))
    level = {name for name, gap in gaps.items() if gap["here_more"]["low"] <= 0}
    assert level == {"hirescam", "layercam"}, "level with it where the hottest region is hidden"
    for name in ("hirescam", "layercam"):
        lost = {key: part[name]["less_than_exact"]["road"] for key, part in sets.items()}
        assert min(lost, key=lambda key: lost[key]["value"]) == "busi"
        assert {key for key, figure in lost.items() if figure["high"] < 0} == {"busi"}
    assert max(row["pointing"]["value"] for row in results.values()) - results["exact"]["pointing"]["value"] < 0.01
