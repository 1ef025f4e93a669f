"""One pass of a real, untrained network over simulated scans."""

import json

import pytest

import bcx
from bcx.data.readers import read_source
from bcx.data.records import Record, load_mask
from bcx.errors import DataError
from bcx.evaluate.evaluation import Evaluation, evaluate
from bcx.evaluate.figures_data import ContactSheet
from bcx.tasks import BREAST_ULTRASOUND as TASK


@pytest.fixture(scope="module")
def records(busi_folder) -> list[Record]:
    return read_source("ward", busi_folder, task=TASK)


@pytest.fixture(scope="module")
def evaluation(tiny_checkpoint, records) -> Evaluation:
    return evaluate(bcx.load(tiny_checkpoint), records, localisation=True)


def test_scans_with_a_lesion_are_localised_and_every_scan_is_scored(evaluation, records):
    lesions = [r for r in records if load_mask(r, bcx.Scan.open(r.file).pixels.shape).any()]
    assert [row["file"] for row in evaluation.scores] == [record.key for record in records]
    assert [place.file for place in evaluation.places] == [record.key for record in lesions]
    assert [place.answer for place in evaluation.places] == [
        row["answer"] for row in evaluation.scores if row["file"] in {record.key for record in lesions}
    ]
    assert len(evaluation.hidden) == sum(row["answer"] == "malignant" for row in evaluation.scores)


def test_the_summary_is_json_and_the_table_has_a_row_per_scan(evaluation, records):
    summary = evaluation.summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert "sources" not in summary
    assert summary["localisation"]["all"]["n"] == len(evaluation.places)
    assert summary["deletion"]["called_positive"] == len(evaluation.hidden)
    table = evaluation.table()
    assert table["file"].tolist() == [record.key for record in records]
    assert table["iou"].notna().sum() == len(evaluation.places)
    assert table["iou"].mean() == pytest.approx(summary["localisation"]["all"]["iou"]["value"])


def test_another_pass_goes_on_where_the_first_ended(tiny_checkpoint, evaluation, records):
    classifier, found = bcx.load(tiny_checkpoint), None
    for part in (records[:5], records[5:]):
        found = evaluate(classifier, part, localisation=True, before=found)
    assert found.summary() == evaluation.summary()


def test_several_sources_have_figures_of_their_own(tiny_checkpoint, records):
    other = [Record(r.file, f"b{r.key}", r.label, f"b{r.group}", "other") for r in records[:3]]
    summary = evaluate(bcx.load(tiny_checkpoint), [*records, *other]).summary()
    assert summary["n"] == len(records) + 3
    assert {name: part["n"] for name, part in summary["sources"].items()} == {"ward": len(records), "other": 3}
    assert "localisation" not in summary


def test_a_mask_that_does_not_fit_is_listed_and_the_rest_goes_on(tiny_checkpoint, records, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    with_lesion = [record for record in records if record.label == "benign"]
    bad = Record(with_lesion[0].file, "ward/bad.png", "benign", "ward:bad", "ward", (tmp_path / "bad.png",))
    sheet, steps = ContactSheet(), []
    found = evaluate(
        bcx.load(tiny_checkpoint),
        [bad, with_lesion[1]],
        localisation=True,
        sheet=sheet,
        on_scan=lambda: steps.append(1),
    )
    summary = found.summary()
    assert [each["file"] for each in summary["masks_failed"]] == ["ward/bad.png"]
    assert (summary["answered"], summary["localisation"]["all"]["n"], len(steps)) == (2, 1, 2)
    only_bad = evaluate(bcx.load(tiny_checkpoint), [bad], localisation=True)
    assert only_bad.summary()["localisation"] is None
    assert len(only_bad.table()) == 1


def test_nothing_to_evaluate_and_nothing_to_localise_are_told_at_once(tiny_checkpoint, records):
    classifier = bcx.load(tiny_checkpoint)
    with pytest.raises(DataError, match="no scans"):
        evaluate(classifier, [])
    bare = [Record(r.file, r.key, r.label, r.group, r.source) for r in records]
    with pytest.raises(DataError, match="mask"):
        evaluate(classifier, bare, localisation=True)
