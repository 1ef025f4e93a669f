"""`bcx evaluate`, run as a person runs it: folders in, figures, a table and sheets out; with --transfer a study."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcx.checkpoints.checkpoint import update_config
from bcx.data.busi import busi_rows
from tests.data.test_busi import picture_with
from tests.layouts import write_busbra_folder


@pytest.fixture
def evaluate(run, tiny_checkpoint):
    """Run `bcx evaluate` with the tiny checkpoint; returns status, out, err."""
    return partial(run, "evaluate", "--checkpoint", tiny_checkpoint)


@pytest.fixture
def clinic(ward) -> Path:
    """Scans of a hospital without normals; the current folder is the one above it."""
    shutil.rmtree(ward / "normal")
    (ward / "notes.txt").unlink()
    return ward


NAMES = ("normal", "benign", "malignant")


def results(file: str = "r.json") -> dict:
    return json.loads(Path(file).read_text("utf-8"))


def rows(file: str = "r.scans.csv") -> list[dict[str, str]]:
    with Path(file).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_without_normals_is_measured(evaluate, clinic, tiny_checkpoint):
    done = evaluate("--data", "clinic=ward", "--out", "r.json")
    assert done.status == 0, done.err
    found = results()
    assert found["n"] == found["answered"] == 8
    assert found["counts"] == {"normal": 0, "benign": 4, "malignant": 4}
    assert found["figures"]["auc_malignant_vs_benign"]["n"] == 8
    assert found["figures"]["sensitivity_normal"]["value"] is None
    assert "localisation" not in found
    assert found["model"]["name"] == tiny_checkpoint.name
    assert len(found["model"]["weights_sha256"]) == 64
    assert found["model"]["backend"] == "torch"
    assert found["command"] == f"bcx evaluate --checkpoint {tiny_checkpoint.name} --data clinic=DIR --split dev"
    assert found["data"]["clinic"]["scans"] == 8
    assert {"commit", "versions", "machine", "seconds", "split"} <= set(found)
    assert "accuracy: " in done.out
    assert "sensitivity_normal" not in done.out  # no such scans, so nothing to say
    table = rows()
    assert [row["file"] for row in table] == sorted(row["file"] for row in table)
    assert all(row["file"].startswith("clinic/") for row in table)
    right = sum(row["answer"] == row["label"] for row in table)
    assert found["figures"]["accuracy"]["value"] == pytest.approx(right / 8)
    assert sorted(path.name for path in Path().iterdir()) == ["r.json", "r.scans.csv", "ward"]


def test_no_folder_of_this_machine_gets_into_the_results(evaluate, clinic, tmp_path):
    evaluate("--data", f"clinic={clinic}", "--out", tmp_path / "r.json", "--localisation")
    for file in ("r.json", "r.scans.csv"):
        assert str(tmp_path.parent) not in Path(file).read_text("utf-8")


@pytest.mark.slow
def test_maps_are_held_against_masks_and_shown_where_asked(evaluate, clinic):
    done = evaluate("--data", "clinic=ward", "--localisation", "--contact-sheet", "seen/here", "--out", "deep/r.json")
    assert done.status == 0, done.err
    found = results("deep/r.json")
    assert found["localisation"]["all"]["n"] == 8
    assert found["command"].endswith("--localisation")
    assert found["deletion"]["called_positive"] == sum(r["answer"] == "malignant" for r in rows("deep/r.scans.csv"))
    assert sorted(path.name for path in Path("seen/here").iterdir()) == ["best.png", "worst.png"]
    assert "heat_inside: " in done.out


def test_two_views_are_noted(evaluate, clinic):
    assert evaluate("--data", "clinic=ward", "--views", "2", "--out", "r.json").status == 0
    assert results()["model"]["views"] == 2
    assert results()["command"].endswith("--views 2")


def test_a_file_that_cannot_be_read_is_listed_and_the_status_is_1(evaluate, clinic):
    file = clinic / "benign" / "benign (1).png"
    file.write_bytes(file.read_bytes()[:300])
    done = evaluate("--data", "clinic=ward", "--out", "r.json")
    assert done.status == 1
    assert [each["file"] for each in results()["failed"]] == ["clinic/benign/benign (1).png"]
    assert results()["answered"] == 7
    assert "1 of 8 files could not be read" in done.err
    assert [row["error"] != "" for row in rows()].count(True) == 1


def test_scans_that_the_model_was_trained_on_are_pointed_out(evaluate, clinic, tiny_checkpoint, monkeypatch, tmp_path):
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "models" / "taught")
    update_config(copy, training={"data": {"clinic": {"sha256": "0" * 64}}})
    known = evaluate("--checkpoint", copy, "--data", "clinic=ward", "--out", "r.json")
    assert (known.status, "was trained on clinic" in known.err) == (0, True)
    assert results()["model"]["trained_on"] == {"clinic": "0" * 64}
    other = evaluate("--checkpoint", copy, "--data", "other=ward", "--out", "r.json")
    assert (other.status, "was trained on" in other.err) == (0, False)


def test_one_fold_of_several_sources(evaluate, clinic):
    table = ["file,label,group,fold", "benign/benign (1).png,benign,a,0", "malignant/malignant (1).png,malignant,b,1"]
    (clinic / "scans.csv").write_text("\n".join(table))
    (clinic / "more.csv").write_text(f"{table[0]}\nbenign/benign (2).png,benign,c,1\n")
    done = evaluate("--data", "one=ward/scans.csv", "--data", "two=ward/more.csv", "--split", "1", "--out", "r.json")
    assert done.status == 0, done.err
    assert [row["file"] for row in rows()] == ["one/malignant/malignant (1).png", "two/benign/benign (2).png"]
    assert set(results()["sources"]) == {"one", "two"}
    missing = evaluate("--data", "one=ward/scans.csv", "--split", "7", "--out", "r.json")
    assert missing.status == 1
    assert "one of the folds 0, 1" in missing.err


@pytest.fixture(scope="module")
def test_scans(tmp_path_factory) -> Path:
    """Non-scans for the published test scans of BUSI: pictures with their hashes, under their names."""
    root = tmp_path_factory.mktemp("published")
    for row in busi_rows():
        if row.split == "test":
            (root / row.label).mkdir(exist_ok=True)
            Image.fromarray(picture_with(row.dhash)).save(root / row.file, compress_level=1)
    return root


def test_busis_test_scans_are_scored_where_they_are_present(evaluate, test_scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = evaluate("--data", f"busi={test_scans}", "--split", "test", "--out", "results-test.json")
    assert done.status == 0, done.err
    found = results("results-test.json")
    assert (found["split"], found["n"]) == ("test", 108)
    assert found["groups"] == len({row.group for row in busi_rows() if row.split == "test"})
    # Without them the reason is said.
    for split in ("dev", "all"):
        missing = evaluate("--data", f"busi={test_scans}", "--split", split, "--out", "other.json")
        assert missing.status == 1
        assert "missing from" in missing.err
    assert not Path("other.json").exists()


def test_another_picture_under_a_published_name_is_refused(evaluate, test_scans, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(test_scans, tmp_path / "copy")
    names = [row.file for row in busi_rows() if row.split == "test"][:2]
    (copy / names[0]).write_bytes((copy / names[1]).read_bytes())
    done = evaluate("--data", "busi=copy", "--split", "test", "--out", "r.json")
    assert done.status == 1
    assert "is not the picture that BUSI published" in done.err


def test_nothing_is_left_half_written(evaluate, clinic, monkeypatch):
    Path("r.json").write_text("the old results")

    def break_down(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bcx.evaluate.evaluation.scored", break_down)
    assert evaluate("--data", "clinic=ward", "--out", "r.json").status != 0
    assert Path("r.json").read_text() == "the old results"
    assert sorted(path.name for path in Path().iterdir()) == ["r.json", "ward"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", "r.json"],
        ["--data", "clinic=ward"],
        ["--data", "ward", "--out", "r.json"],
        ["--data", "clinic=ward", "--out", "ward"],
        ["--data", "clinic=ward", "--out", "r.csv"],
        ["--data", "clinic=ward", "--out", "r.json", "--contact-sheet", "seen"],
        ["--data", "clinic=ward", "--data", "clinic=ward", "--out", "r.json"],
        ["--data", "clinic=ward", "--out", "r.json", "--views", "3"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_writes_nothing(evaluate, clinic, arguments):
    assert evaluate(*arguments).status == 2
    assert [path.name for path in Path().iterdir()] == ["ward"]


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_split_that_a_folder_does_not_have_is_told(evaluate, clinic, split):
    done = evaluate("--data", "clinic=ward", "--split", split, "--out", "r.json")
    assert done.status == 1
    assert f"no split called '{split}'" in done.err


def test_masks_that_are_not_there_are_told_before_the_work(evaluate, clinic):
    for mask in clinic.rglob("*_mask*"):
        mask.unlink()
    done = evaluate("--data", "clinic=ward", "--localisation", "--out", "r.json")
    assert done.status == 1
    assert "mask" in done.err


@pytest.mark.slow
def test_the_networks_of_a_crossvalidation_each_answer_what_they_never_saw(run, clinic, busi_folder):
    settings = ["arch=mobilenetv2_035", "size=64", "batch_size=8", "precision=fp32", "folds=2", "lesion={}"]
    options = [word for setting in settings for word in ("--set", setting)]
    options += ["--init", "scratch", "--epochs", "1", "--data", f"mine={busi_folder}"]
    assert run("crossval", *options, "--out", "results/tiny").status == 0
    again = json.loads(Path("results/tiny/results.json").read_text())["command"]
    assert all(f"--set {setting}" in again for setting in settings), "the command that is published does the same"
    assert "--init scratch --seed 0 --epochs 1" in again
    command = ["evaluate", "--crossval", "results/tiny", "--localisation", "--out", "r.json"]
    assert run(*command, "--data", f"mine={busi_folder}").status == 0
    found = results()
    assert found["n"] == found["answered"] == 12
    assert len(found["model"]["weights_sha256"]) == 2
    assert found["command"] == "bcx evaluate --crossval results/tiny --data mine=DIR --localisation"
    with Path("results/tiny/oof.csv").open(newline="") as stream:
        logits = {row["file"]: [float(row[f"logit_{name}"]) for name in NAMES] for row in csv.DictReader(stream)}
    for row in rows():  # the answers are those of the cross-validation
        raw = np.exp(np.array(logits[row["file"]]) - max(logits[row["file"]]))
        assert [float(row[f"p_{name}"]) for name in NAMES] == pytest.approx(list(raw / raw.sum()), abs=2e-3)
    other = run(*command, "--data", f"other={busi_folder}")
    assert other.status == 1
    assert "None of the scans" in other.err


RECIPE = "name: tiny\narch: mobilenetv2_035\nsize: 64\nbatch_size: 8\nprecision: fp32\nepochs: 1\nfolds: 2\n"


@pytest.fixture
def transfer(run, tmp_path, busi_folder, monkeypatch):
    """Run the command in an empty folder that holds a recipe and BUS-BRA; returns status, out, err."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)
    sources = ["--data", f"cairo={busi_folder}", "--data", f"rio={write_busbra_folder('busbra', patients=8)}"]
    return partial(run, "evaluate", "--transfer", "tiny.yaml", *sources, "--init", "scratch", "--out", "out")


@pytest.mark.slow
def test_parts_one_after_the_other_end_in_one_table(transfer, tmp_path):
    first = transfer("--parts", "hospital")
    assert first.status == 0, first.err
    assert "cairo -> rio (16 lesions): AUC " in first.out
    found = json.loads(Path("out/results.json").read_text())
    assert [row["part"] for row in found["table"]] == ["hospital", "hospital"]
    assert found["command"] == (
        "bcx evaluate --transfer tiny.yaml --data cairo=DIR --data rio=DIR --init scratch --parts hospital"
    )
    unknown = transfer("--parts", "machine", "--machine", "no such")
    assert unknown.status == 2
    name = unknown.err.split("one or more of '")[1].split("'")[0]  # the message names those that there are
    second = transfer("--parts", "machine", "--machine", name)
    assert second.status == 0, second.err
    assert "hospital" not in second.err  # nothing is trained again
    found = json.loads(Path("out/results.json").read_text())
    assert [(row["part"], row["score_on"]) for row in found["table"]] == [
        ("hospital", "rio"),
        ("hospital", "cairo"),
        ("machine", name),
    ]
    assert str(tmp_path) not in Path("out/results.json").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ["--parts", "country"],
        ["--localisation"],
        ["--views", "2"],
        ["--split", "test"],
        ["--set", "epochs"],
        ["--set", "epoch=1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_trains_nothing(transfer, options):
    assert transfer(*options).status == 2
    assert not Path("out").exists()


@pytest.mark.parametrize("options", [["--parts", "hospital"], ["--machine", "a"], ["--init", "timm"]], ids=" ".join)
def test_options_of_the_study_need_the_study(run, tmp_path, options):
    done = run("evaluate", "--data", f"clinic={tmp_path}", "--out", tmp_path / "r.json", *options)
    assert done.status == 2
    assert f"{options[0]} was given without --transfer" in done.err
