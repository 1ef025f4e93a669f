"""Transfer: what is scored was not trained on, nothing is trained twice, every figure stands in the tables beside."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import bcx.studies.transfer as module
from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.data.readers import busbra_devices, read_source
from bcx.data.splits import assign_folds
from bcx.errors import ConfigError, DataError, TrainingError
from bcx.evaluate.corruptions import CORRUPTIONS
from bcx.evaluate.derived import BY_HOSPITAL
from bcx.evaluate.oof import oof_frame, read_answers, read_oof
from bcx.studies.decisions import left_out_results
from bcx.studies.transfer import lesion_row, transfer_study
from bcx.studies.transfer_plan import PARTS, plan_runs
from bcx.tasks import get_task
from bcx.train.answer import answer_records
from bcx.train.config import Recipe
from bcx.train.crossval import crossval, split_fold
from bcx.train.provenance import read_json
from bcx.train.state import STATE_FILE
from bcx.trust.calibration import apply_temperature
from bcx.trust.input_check import fit_input_check
from tests.conftest import few_resamples, never
from tests.layouts import write_busbra_folder

_few = pytest.fixture(scope="module", autouse=True)(few_resamples)
TASK = get_task("breast-ultrasound")
RECIPE = Recipe(
    name="tiny", arch="mobilenetv2_035", init="scratch", size=64, batch_size=8, precision="fp32", epochs=1, folds=2
)


@pytest.fixture(scope="module")
def busbra(tmp_path_factory):
    return write_busbra_folder(tmp_path_factory.mktemp("rio") / "busbra", patients=8)


@pytest.fixture(scope="module")
def records(busi_folder, busbra):
    cairo = assign_folds(read_source("cairo", busi_folder, task=TASK), k=2)
    rio = [replace(record, fold=record.fold % 2) for record in read_source("rio", busbra, task=TASK)]
    return [*cairo, *rio]


@pytest.fixture(scope="module")
def devices(busbra):
    """Two machines with both kinds of lesion, and one with a single patient."""
    of_case = {1: "Ultra @7 MHz", 2: "Ultra @7 MHz", 3: "Sono 2", 4: "Sono 2", 5: "lonely"}
    cases = {key: int(key.split("bus_")[1][:4]) for key in busbra_devices(busbra, "rio")}
    return {key: of_case[case] for key, case in cases.items() if case in of_case}


@pytest.fixture(scope="module")
def study(records, devices, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "transfer"
    told = []
    results = transfer_study(
        RECIPE, records, out=out, command="bcx study", devices=devices, on_epoch=lambda *told_now: told.append(told_now)
    )
    return SimpleNamespace(out=out, results=results, told=told)


def test_what_is_scored_was_not_trained_on(records, devices):
    runs = plan_runs(RECIPE, records, PARTS, devices)
    assert [run.name for run in runs] == [
        "hospital cairo",
        "hospital rio",
        "machine Sono 2",
        "machine Ultra @7 MHz",
        "fold 0",
        "fold 1",
    ]
    assert len({run.folder for run in runs}) == len(runs)
    for run in runs:
        assert run.train
        assert run.held
        assert not {r.group for r in run.train + run.inner} & {r.group for r in run.held}
        assert {r.key for r in run.corrupted} <= {r.key for r in run.held}
    cairo, rio = runs[:2]
    assert {r.source for r in cairo.train} == {r.source for r in rio.held} == {"cairo"}
    assert {r.source for r in cairo.held} == {r.source for r in rio.train} == {"rio"}
    for run in runs[2:4]:
        assert {devices[r.key] for r in run.held} == {run.score_on}
        assert len(run.train) + len(run.held) == len(records)
    for run in runs[4:]:
        assert (run.train, run.held) == split_fold(records, run.number)
        assert {r.source for r in run.corrupted} == {"cairo"}  # the other source has no normals


def test_of_three_hospitals_each_is_left_out_once(records):
    third = [replace(r, key=f"oslo/{r.key}", group=f"oslo:{r.group}", source="oslo") for r in records[:12]]
    third = [replace(r, file=r.file.with_name(f"oslo-{r.file.name}")) for r in third]
    runs = plan_runs(RECIPE, [*records, *third], ["left-out"])
    assert [run.folder for run in runs] == ["without-cairo", "without-oslo", "without-rio"]
    for run in runs:
        assert {r.source for r in run.held} == {run.score_on}
        assert {r.source for r in run.train} == {"cairo", "oslo", "rio"} - {run.score_on}
        assert len(run.train) + len(run.held) == len(records) + len(third)


def test_a_patient_on_two_machines_is_not_trained_on(records, devices):
    other_view = next(r.key for r in records if devices.get(r.key) == "Sono 2")
    run = plan_runs(RECIPE, records, ["machine"], devices | {other_view: "Ultra @7 MHz"})[0]
    groups = {r.group for r in run.held}
    assert all(r.group not in groups for r in run.train)
    assert other_view not in {r.key for r in [*run.train, *run.held]}


def test_records_without_a_fold_take_no_part(records, devices):
    unused = replace(records[0], key="cairo/unused.png", group="cairo:unused", fold=None)
    for run in plan_runs(RECIPE, [*records, unused], PARTS, devices):
        assert unused not in [*run.train, *run.inner, *run.held]


def test_where_no_source_shows_every_class_all_are_corrupted(records):
    lesions = [r for r in records if r.label != "normal"]
    for run in plan_runs(RECIPE, lesions, ["corruption"]):
        assert run.corrupted == run.held


def test_what_cannot_be_asked_is_said(records, devices):
    with pytest.raises(ConfigError, match="'country'"):
        plan_runs(RECIPE, records, ["country"])
    with pytest.raises(DataError, match="1 source"):
        plan_runs(RECIPE, [r for r in records if r.source == "rio"], ["hospital"])
    with pytest.raises(DataError, match=r"2 sources.*three hospitals"):
        plan_runs(RECIPE, records, ["left-out"])
    with pytest.raises(DataError, match="No machine"):
        plan_runs(RECIPE, records, ["machine"])
    with pytest.raises(ConfigError, match=r"'lonely'.*'Sono 2' \(4 scans\), 'Ultra @7 MHz' \(4 scans\)"):
        plan_runs(RECIPE, records, ["machine"], devices, ["Sono 2", "lonely"])


def test_only_the_machines_named_are_left_out(records, devices):
    every = plan_runs(RECIPE, records, ["machine"], devices)
    assert plan_runs(RECIPE, records, ["machine"], devices, ["Ultra @7 MHz"]) == every[1:]


@pytest.mark.slow
def test_the_table_has_a_row_for_every_pair(study, devices):
    rows = [(row["part"], row["train_on"], row["score_on"]) for row in study.results["table"]]
    assert rows == [
        ("hospital", "cairo", "rio"),
        ("hospital", "rio", "cairo"),
        ("machine", "every other machine", "Sono 2"),
        ("machine", "every other machine", "Ultra @7 MHz"),
        ("machine", "every other machine", "the machines above, pooled"),
        ("folds", "the other folds of every source", "cairo"),
        ("folds", "the other folds of every source", "rio"),
    ]
    assert [row["n"] for row in study.results["table"]] == [16, 12, 4, 4, 8, 12, 16]
    assert [row["lesions"] for row in study.results["table"]] == [16, 8, 4, 4, 8, 8, 16]
    assert study.results["table"][0]["absent_called_absent"]["value"] is None
    assert study.results["table"][1]["absent_called_absent"]["n"] == 4


@pytest.mark.slow
def test_every_figure_can_be_derived_from_the_predictions(study):
    results = json.loads((study.out / "results.json").read_text())
    assert results == json.loads(json.dumps(study.results))
    for row, folder in zip(results["table"][:2], ("hospital-cairo", "hospital-rio"), strict=True):
        frame = pd.read_csv(study.out / folder / "oof.csv")
        frame = frame[frame["label"] != "normal"]
        logits = frame[[f"logit_{name}" for name in TASK.classes]].to_numpy()
        malignant, called = frame["label"] == "malignant", logits.argmax(1)
        assert row["auc"]["value"] == pytest.approx(roc_auc_score(malignant, logits[:, 2] - logits[:, 1]))
        assert row["sensitivity"]["value"] == pytest.approx((called == 2)[malignant].mean())
        assert row["specificity"]["value"] == pytest.approx((called != 2)[~malignant].mean())
        assert row["lesions_called_absent"]["value"] == pytest.approx((called == 0).mean())
    corrupted = pd.concat([pd.read_csv(study.out / f"crossval/fold-{fold}/corrupted.csv") for fold in (0, 1)])
    assert results["corruption"]["n"] == 12
    clean = corrupted[corrupted["kind"] == "clean"]
    right = clean[[f"p_{name}" for name in TASK.classes]].to_numpy().argmax(1) == clean["label"].map(TASK.classes.index)
    assert results["corruption"]["clean"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert len(results["corruption"]["kinds"]) == len(CORRUPTIONS)
    for key in ("command", "recipe", "commit", "versions", "seconds", "data"):
        assert key in results


@pytest.mark.slow
def test_a_clean_scan_is_answered_as_in_the_other_table(study):
    """Corrupted pictures go the same way to the network as files do, but for the rounding of the kept weights."""
    for fold in (0, 1):
        folder = study.out / f"crossval/fold-{fold}"
        corrupted = pd.read_csv(folder / "corrupted.csv")
        clean = corrupted[corrupted["kind"] == "clean"].set_index("file")
        plain = read_oof(folder / "oof.csv", TASK).set_index("file").loc[clean.index]
        logits = plain[[f"logit_{name}" for name in TASK.classes]].to_numpy()
        found = clean[[f"p_{name}" for name in TASK.classes]].to_numpy()
        assert np.allclose(found, apply_temperature(logits), atol=2e-3)


@pytest.mark.slow
def test_the_figure_shows_both(study):
    with Image.open(study.out / study.results["figure"]) as picture:
        assert picture.width == 1500
        assert len(picture.convert("RGB").getcolors(100_000)) > 20


@pytest.mark.slow
def test_each_epoch_is_told_with_the_name_of_its_run(study):
    assert [name for name, _, epochs in study.told] == [run["name"] for run in study.results["runs"]]
    assert all(row["epoch"] == epochs == 1 for _, row, epochs in study.told)


@pytest.mark.slow
def test_no_path_of_this_machine_and_no_snapshot_is_left(study, busi_folder, busbra):
    files = [file for file in study.out.rglob("*") if file.is_file()]
    assert not [file for file in files if file.name == STATE_FILE]
    for file in files:
        if file.suffix in (".json", ".csv"):
            assert not {str(busi_folder), str(busbra)} & set(file.read_text().split('"'))
            assert str(busi_folder.parent) not in file.read_text()


def ask(records, out, *parts, **options):
    return transfer_study(RECIPE, records, out=out, command="x", parts=parts or PARTS, **options)


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(module, "fit_network", never)
    monkeypatch.setattr("bcx.train.crossval.fit_network", never)


@pytest.fixture
def folds(study, tmp_path):
    """The cross-validation of the study without what it answered under corruptions."""
    for fold in (0, 1):
        shutil.copytree(
            study.out / f"crossval/fold-{fold}",
            tmp_path / f"folds/fold-{fold}",
            ignore=shutil.ignore_patterns("corrupted.*"),
        )
    return tmp_path / "folds"


@pytest.mark.slow
@pytest.mark.usefixtures("no_training")
def test_what_is_finished_is_not_trained_again(study, records, devices):
    unlike = {"commit": None, "command": None}  # someone may commit meanwhile
    for parts in (PARTS, ["hospital"]):  # the other parts are still there
        again = ask(records, study.out, *parts, devices=devices)
        assert again | unlike == study.results | unlike
    pooled = crossval(RECIPE, records, out=study.out / "crossval", command="bcx crossval")
    assert pooled["n"] == len(records)
    with pytest.raises(AssertionError, match="trained again"):
        transfer_study(RECIPE.model_copy(update={"lr": 1e-5}), records, out=study.out, command="x", devices=devices)


@pytest.mark.slow
@pytest.mark.usefixtures("no_training")
def test_other_scans_to_score_are_scored_by_the_network_that_was_kept(study, records, tmp_path):
    shutil.copytree(study.out / "hospital-cairo", tmp_path / "hospital-cairo")
    more = replace(records[-1], key="sono/more.png", source="sono", group="sono:more")
    run = next(run for run in plan_runs(RECIPE, records, ["hospital"]) if run.train_on == "cairo")
    module._complete(replace(run, held=[*run.held, more]), tmp_path, "x", {}, never, never, lambda: None)
    before, after = (read_oof(folder / "hospital-cairo/oof.csv", TASK) for folder in (study.out, tmp_path))
    assert list(after["file"]) == [*before["file"], "sono/more.png"]
    columns = [f"logit_{name}" for name in TASK.classes]
    assert np.allclose(after[columns].iloc[:-1], before[columns], atol=0.01)  # weights are kept rounded


@pytest.mark.slow
@pytest.mark.usefixtures("no_training")
def test_the_networks_of_a_cross_validation_are_used(study, records, folds, tmp_path):
    results = ask(records, tmp_path / "out", "corruption", crossval=folds)
    assert results["corruption"] == study.results["corruption"]
    for name in ("corrupted.csv", "oof.csv", "run.json"):
        found, before = (folder / f"crossval/fold-1/{name}" for folder in (tmp_path / "out", study.out))
        assert found.read_bytes() == before.read_bytes()
    assert not (folds / "fold-1/corrupted.csv").exists()  # nothing is written where the networks were found
    assert not (tmp_path / "out/crossval/fold-1/network").exists()
    with pytest.raises(TrainingError, match="folds/fold-0"):  # nobody's results are trained over
        transfer_study(
            RECIPE.model_copy(update={"lr": 1e-5}),
            records,
            out=tmp_path / "out",
            command="x",
            parts=["corruption"],
            crossval=folds,
        )
    shutil.rmtree(folds / "fold-1/network")
    (tmp_path / "out/crossval/fold-1/corrupted.csv").unlink()
    with pytest.raises(AssertionError, match="trained again"):
        ask(records, tmp_path / "out", "corruption", crossval=folds)


@pytest.mark.slow
@pytest.mark.usefixtures("no_training")
def test_parts_asked_for_one_after_the_other_stand_side_by_side(study, records, devices, tmp_path):
    """As processes would do it that share a folder, with the trainings taken from the whole study."""
    for folder in ("hospital-cairo", "hospital-rio", "machine-sono-2", "machine-ultra-7-mhz", "crossval"):
        shutil.copytree(study.out / folder, tmp_path / "ready" / folder)

    def bringing(*parts, bring, **options):
        for folder in bring:
            shutil.copytree(tmp_path / "ready" / folder, tmp_path / "out" / folder)
        return ask(records, tmp_path / "out", *parts, devices=devices, **options)

    one = bringing("machine", machines=["Sono 2"], bring=["machine-sono-2"])
    assert [row["score_on"] for row in one["table"]] == ["Sono 2"]
    hospitals = bringing("hospital", bring=["hospital-cairo", "hospital-rio"])
    assert [row["score_on"] for row in hospitals["table"]] == ["rio", "cairo", "Sono 2"]
    both = bringing("machine", bring=["machine-ultra-7-mhz"])
    assert both["table"] == study.results["table"][:5]
    assert "corruption" not in both
    shutil.copytree(tmp_path / "ready/crossval/fold-0", tmp_path / "out/crossval/fold-0")
    assert bringing("machine", bring=[])["table"] == both["table"]  # one fold alone is not pooled
    whole = bringing("corruption", bring=[], crossval=tmp_path / "ready/crossval")
    assert whole["table"] == study.results["table"]
    assert whole["corruption"] == study.results["corruption"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_training")
def test_what_another_process_finished_meanwhile_is_in_the_results(study, records, devices, tmp_path, monkeypatch):
    for folder in ("hospital-cairo", "hospital-rio"):
        shutil.copytree(study.out / folder, tmp_path / folder)
    write, calls = module.write_json, []

    def slow_write(file, content):
        if not calls:  # while the first summary is made, the other process comes to its end
            shutil.copytree(study.out / "machine-sono-2", tmp_path / "machine-sono-2")
        calls.append(file.name)
        write(file, content)

    monkeypatch.setattr(module, "write_json", slow_write)
    results = ask(records, tmp_path, "hospital", devices=devices)
    assert [row["score_on"] for row in results["table"]] == ["rio", "cairo", "Sono 2"]
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    assert calls == ["results.json"] * 2


@pytest.mark.slow
def test_results_of_another_recipe_are_not_taken_for_this_ones(study, records, devices, tmp_path):
    shutil.copytree(study.out / "hospital-cairo", tmp_path / "hospital-cairo")
    other = RECIPE.model_copy(update={"lr": 1e-5})
    runs = {run.name: run for run in plan_runs(RECIPE, records, ["hospital"])}
    assert module.is_done(runs["hospital cairo"], tmp_path)
    assert not module.is_done(replace(runs["hospital cairo"], recipe=other), tmp_path)
    assert not module.is_done(runs["hospital rio"], tmp_path)


@pytest.mark.slow
def test_every_answer_is_told(study, records, folds, tmp_path):
    told = []
    ask(records, tmp_path / "out", "corruption", crossval=folds, on_answer=lambda: told.append(1))
    assert len(told) == study.results["corruption"]["n"] * (1 + len(CORRUPTIONS))


@pytest.mark.slow
def test_a_run_that_was_stopped_while_it_answered_goes_on_without_training(records, tmp_path, monkeypatch):
    """The snapshot stays until everything is written: the second start trains no epoch."""
    monkeypatch.setattr(module, "write_oof", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(records, tmp_path, "hospital")
    monkeypatch.undo()
    assert (tmp_path / "hospital-cairo" / STATE_FILE).is_file()
    told = []
    ask(records, tmp_path, "hospital", on_epoch=lambda name, *_: told.append(name))
    assert told == ["hospital rio"]


def interrupted(*args):
    raise KeyboardInterrupt


def test_lesions_alone_count_where_it_says_so():
    labels = ["normal", "normal", "benign", "benign", "malignant", "malignant", "malignant"]
    records = [SimpleNamespace(key=f"a/{i}", source="a", group=f"a:{i}", label=c) for i, c in enumerate(labels)]
    called = np.array([0, 2, 0, 2, 2, 2, 1])
    logits = 3.0 * np.eye(3)[called] + np.array([0, 0, 0.5])
    row = lesion_row(oof_frame(records, 0, logits, logits, TASK), TASK)
    assert (row["n"], row["lesions"], row["groups"]) == (7, 5, 7)
    assert row["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert row["specificity"]["value"] == pytest.approx(1 / 2)
    assert row["lesions_called_absent"]["value"] == pytest.approx(1 / 5)
    assert row["absent_called_absent"]["value"] == pytest.approx(1 / 2)
    assert row["auc"]["value"] == pytest.approx(roc_auc_score([0, 0, 1, 1, 1], (logits[2:, 2] - logits[2:, 1])))
    assert row["auc"]["n"] == 5


def test_without_lesions_there_is_no_auc():
    records = [SimpleNamespace(key=f"a/{i}", source="a", group=f"a:{i}", label="normal") for i in range(4)]
    logits = np.zeros((4, 3))
    row = lesion_row(oof_frame(records, 0, logits, logits, TASK), TASK)
    assert row["auc"] == {"value": None, "low": None, "high": None, "n": 0}
    assert row["lesions_called_absent"]["value"] is None


@pytest.fixture(scope="module")
def left_out(records, tmp_path_factory):
    """A third hospital, and the study in which each of the three was left out."""
    folder, third = tmp_path_factory.mktemp("three"), []
    for number, record in enumerate(records[:12]):
        copy = shutil.copyfile(record.file, folder / f"{number}.png")
        third.append(replace(record, key=f"oslo/{number}.png", group=f"oslo:{record.group}", source="oslo", file=copy))
    out = folder / "transfer"
    transfer_study(RECIPE, [*records, *third], out=out, command="bcx study", parts=["left-out"])
    return SimpleNamespace(records=[*records, *third], out=out)


@pytest.mark.slow
def test_a_hospital_left_out_is_told_how_unlike_it_is(left_out):
    answers = read_answers(left_out.out / "without-rio" / "oof.csv", TASK)
    kept = load_checkpoint(left_out.out / "without-rio" / "network")
    train, held = ([r for r in left_out.records if (r.source == "rio") == out] for out in (False, True))
    stages = np.stack([r.stages for r in answer_records(kept.network, kept.preprocess, train)])
    check = fit_input_check(stages, np.array([r.fold for r in train]))
    expected = check.distances(np.stack([r.stages for r in answer_records(kept.network, kept.preprocess, held)]))
    assert answers["distance"].to_numpy() == pytest.approx(expected, rel=1e-3)
    assert read_answers(left_out.out / "without-oslo" / "oof.csv", TASK)["distance"].notna().all()


@pytest.mark.slow
def test_hospitals_left_out_are_the_folds_of_a_cross_validation(left_out, study, tmp_path):
    frame, results = left_out_results(left_out.out, TASK)
    assert frame.groupby("fold")["source"].unique().map(list).tolist() == [["cairo"], ["oslo"], ["rio"]]
    assert sorted(frame["file"]) == sorted(record.key for record in left_out.records)
    stored = {row["score_on"]: row["auc"]["value"] for row in read_json(left_out.out / "results.json")["table"]}
    assert {
        name: part["one_view"]["auc_malignant_vs_benign"]["value"] for name, part in results["sources"].items()
    } == stored
    assert results["protocol"] == BY_HOSPITAL
    assert len(results["folds"]) == 3
    assert left_out_results(tmp_path, TASK) is None
    assert left_out_results(study.out, TASK) is None  # other parts of the study only
