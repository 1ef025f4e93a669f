"""The out-of-fold table: what is written comes back, and every headline figure follows from it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from bcx.data.records import Record
from bcx.errors import DataError
from bcx.evaluate.derived import summarise_oof
from bcx.evaluate.oof import logits_of, oof_columns, oof_frame, read_answers, read_oof, write_oof
from bcx.tasks import get_task
from tests.conftest import few_resamples

_few = pytest.fixture(scope="module", autouse=True)(few_resamples)
TASK = get_task("breast-ultrasound")


def table(count: int = 90, folds: int = 3, seed: int = 0, source: str = "busi", classes=TASK.classes) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frames = []
    for fold in range(folds):
        labels = [classes[i] for i in rng.integers(0, len(classes), count // folds)]
        records = [
            Record(
                file=Path("elsewhere") / f"{i}.png",
                key=f"{source}/{label}/{label}, scan ({fold}-{i}).png",
                label=label,
                group=f"{source}:{fold}-{i // 2}",
                source=source,
            )
            for i, label in enumerate(labels)
        ]
        truth = np.eye(3)[[TASK.classes.index(label) for label in labels]]
        straight, mirrored = (rng.normal(size=(len(labels), 3)) + 1.5 * truth for _ in range(2))
        frames.append(oof_frame(records, fold, straight, mirrored, TASK))
    return pd.concat(frames, ignore_index=True)


def test_the_columns_and_the_file_say_no_path_of_this_machine(tmp_path):
    write_oof(tmp_path / "oof.csv", table(), TASK)
    text = (tmp_path / "oof.csv").read_text("utf-8")
    assert text.splitlines()[0] == (
        "file,source,group,fold,label,logit_normal,logit_benign,logit_malignant,"
        "mirror_logit_normal,mirror_logit_benign,mirror_logit_malignant"
    )
    assert "elsewhere" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["oof.csv"]


def test_float32_comes_back_to_the_last_bit(tmp_path):
    frame = table(300)
    columns = oof_columns(TASK)[5:]
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2**32, (len(frame), 6), dtype=np.uint32)
    values = bits.view(np.float32)
    values = np.where(np.isfinite(values), values, np.float32(0.1))  # any finite float32, subnormal or huge
    frame[columns] = values
    write_oof(tmp_path / "oof.csv", frame, TASK)
    back = read_oof(tmp_path / "oof.csv", TASK)
    views = [logits_of(back, TASK, view) for view in ("logit", "mirror_logit")]
    assert views[0].dtype == np.float32
    np.testing.assert_array_equal(np.hstack(views), values)


def test_text_comes_back_even_where_it_looks_like_something_else(tmp_path):
    frame = table(6, folds=1)
    frame["group"] = ["NA", "007", "1e5", "", "a,b", 'say "x"']
    frame["file"] = ["null", "=1+1", "nan", "ä ö.png", "a/b\\c", "True"]
    write_oof(tmp_path / "oof.csv", frame, TASK)
    pd.testing.assert_frame_equal(read_oof(tmp_path / "oof.csv", TASK), frame, check_dtype=False)


@pytest.mark.parametrize("sign", [",", ";"])
def test_the_distance_comes_back_and_must_be_a_number(tmp_path, sign):
    file, frame = tmp_path / "oof.csv", table().assign(distance=77777.5)
    write_oof(file, frame, TASK)
    file.write_text(file.read_text().replace(",", sign))
    assert (read_answers(file, TASK)["distance"] == 77777.5).all()
    assert "distance" not in read_oof(file, TASK)
    file.write_text(file.read_text().replace("77777.5", "far"))
    with pytest.raises(DataError, match="'far'"):
        read_answers(file, TASK)
    write_oof(file, frame.drop(columns="distance"), TASK)
    assert read_answers(file, TASK)["distance"].isna().all()


def test_headline_figures_follow_from_the_raw_columns():
    frame = table(120, folds=4, seed=1)
    summary = summarise_oof(frame, TASK, temperature=1.7)
    labels = frame["label"].map({name: i for i, name in enumerate(TASK.classes)}).to_numpy()
    columns = frame.columns

    def probabilities(prefix: str) -> np.ndarray:
        odds = np.exp(frame[[c for c in columns if c.startswith(prefix)]].to_numpy(np.float64) / 1.7)
        return odds / odds.sum(axis=1, keepdims=True)

    one = probabilities("logit_")
    two = (one + probabilities("mirror_logit_")) / 2
    for name, values in (("one_view", one), ("two_views", two)):
        assert summary[name]["accuracy"]["value"] == pytest.approx((values.argmax(axis=1) == labels).mean())
        assert summary[name]["macro_auc"]["value"] == pytest.approx(
            sk.roc_auc_score(labels, values, multi_class="ovr"), abs=1e-9
        )
        assert summary[name]["log_loss"]["value"] == pytest.approx(sk.log_loss(labels, values))
    assert (summary["n"], summary["groups"], summary["temperature"]) == (120, 60, 1.7)
    assert summary["report"]["accuracy"] == summary["one_view"]["accuracy"]["value"]
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_folds_add_up_to_the_whole():
    summary = summarise_oof(table(120, folds=4), TASK)
    folds = summary["folds"]
    assert [row["fold"] for row in folds] == [0, 1, 2, 3]
    assert sum(row["n"] for row in folds) == 120
    for key, view in (("accuracy", "one_view"), ("two_views_accuracy", "two_views")):
        pooled = sum(row["n"] * row[key] for row in folds) / 120
        assert pooled == pytest.approx(summary[view]["accuracy"]["value"])


def test_temperature_changes_confidence_but_no_decision():
    frame = table()
    plain, scaled = summarise_oof(frame, TASK, 1.0), summarise_oof(frame, TASK, 3.0)
    assert plain["one_view"]["accuracy"] == scaled["one_view"]["accuracy"]
    assert plain["one_view"]["log_loss"] != scaled["one_view"]["log_loss"]


def test_scans_left_out_are_left_out():
    frame = table(90)
    dropped = frame["file"].iloc[:11].tolist()
    summary = summarise_oof(frame, TASK, leave_out={"axilla": [*dropped, "busi/unknown.png"]})
    without = summary["without"]["axilla"]
    alone = summarise_oof(frame.iloc[11:], TASK)
    assert (without["left_out"], without["n"]) == (11, 79)
    assert without["one_view"] == alone["one_view"]
    assert without["two_views"] == alone["two_views"]
    assert summary["one_view"] == summarise_oof(frame, TASK)["one_view"]
    assert "without" not in alone


def test_each_source_gets_its_figures_and_one_of_them_has_no_normals():
    busi, busbra = table(60), table(45, seed=3, source="busbra", classes=("benign", "malignant"))
    summary = summarise_oof(pd.concat([busi, busbra], ignore_index=True), TASK)
    assert set(summary["sources"]) == {"busi", "busbra"}
    assert summary["sources"]["busi"]["one_view"] == summarise_oof(busi, TASK)["one_view"]
    assert summary["sources"]["busbra"]["n"] == 45
    assert summary["sources"]["busbra"]["two_views"]["sensitivity_normal"]["value"] is None
    assert "sources" not in summarise_oof(busi, TASK)


def spoil(frame: pd.DataFrame, problem: str) -> pd.DataFrame:
    frame = frame.copy()
    if problem == "twice":
        return pd.concat([frame, frame.iloc[:1]], ignore_index=True)
    if problem == "no rows":
        return frame.iloc[:0]
    if problem == "no column logit_benign":
        return frame.drop(columns="logit_benign")
    if problem == "label 'cyst'":
        frame.loc[3, "label"] = "cyst"
    elif problem == "more than one fold":
        frame.loc[frame["fold"] == 1, "group"] = frame.loc[0, "group"]
    else:
        frame.loc[3, "mirror_logit_benign"] = np.nan
    return frame


@pytest.mark.parametrize(
    "problem", ["twice", "no rows", "no column logit_benign", "label 'cyst'", "more than one fold", "not a number"]
)
def test_a_table_that_is_wrong_is_refused_by_name(tmp_path, problem):
    frame = spoil(table(), problem)
    with pytest.raises(DataError, match=problem):
        write_oof(tmp_path / "never.csv", frame, TASK)
    assert not list(tmp_path.iterdir())
    frame.to_csv(tmp_path / "oof.csv", index=False)
    with pytest.raises(DataError):
        read_oof(tmp_path / "oof.csv", TASK)
    with pytest.raises(DataError, match=problem):
        summarise_oof(frame, TASK)


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_oof(tmp_path / "missing.csv", TASK)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match="has no column 'file'"):
        read_oof(tmp_path / "empty.csv", TASK)
    (tmp_path / "half.csv").write_text("file,source,group,fold,label,logit_normal\na,b,c,0,benign,\n")
    with pytest.raises(DataError):
        read_oof(tmp_path / "half.csv", TASK)


def test_a_table_that_a_spreadsheet_saved_again_reads_the_same(tmp_path):
    records = [Record(Path(f"{n}.png"), f"busi/{n}.png", "benign", f"busi:{n}", "busi") for n in range(3)]
    logits = np.random.default_rng(0).normal(size=(2, 3, 3))
    write_oof(tmp_path / "oof.csv", oof_frame(records, 0, *logits, TASK), TASK)
    text = (tmp_path / "oof.csv").read_text("utf-8").replace(",", ";").replace(".", ",").replace(",png", ".png")
    (tmp_path / "saved.csv").write_bytes(text.replace("\n", "\r\n").encode("utf-16"))
    pd.testing.assert_frame_equal(read_oof(tmp_path / "saved.csv", TASK), read_oof(tmp_path / "oof.csv", TASK))
    (tmp_path / "saved.csv").write_text(text.replace("busi:1;0;", "busi:1;first;"))
    with pytest.raises(DataError, match=r"Line 3 of .* has 'first' in the column 'fold'"):
        read_oof(tmp_path / "saved.csv", TASK)
