"""Figures come out again, or it is said which do not."""

import copy
import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from bcx.cli.main import app
from bcx.errors import CheckpointError, ConfigError, DataError
from bcx.report.facts import gather
from bcx.report.reproduce import check_checkpoint, check_figures, check_scans, derive_again
from bcx.report.scans import refuse_repository


def wrong(checks) -> list[str]:
    return [check.what for check in checks if check.agrees is False]


def test_what_was_stored_comes_out_again(model):
    facts = gather(model)
    again = derive_again(facts)
    checks = check_figures(facts.results, again) + check_checkpoint(facts, again)
    assert len(checks) > 100
    assert wrong(checks) == []


def test_a_changed_figure_a_missing_one_and_a_changed_table_are_found(model, derived):
    facts = gather(model)
    stored = copy.deepcopy(facts.results)
    stored["one_view"]["accuracy"]["value"] += 0.001
    del stored["two_views"]["mcc"]
    stored["decisions"]["sources"]["other"]["sensitivity"]["n"] += 1
    assert wrong(check_figures(stored, derived)) == [
        "one view: accuracy",
        "two views: mcc",
        "label, other: sensitivity",
    ]
    facts.config["bcx"]["temperature"] *= 1.01
    facts.config["bcx"]["decisions"]["rule"]["negative_below"] += 0.01
    (model / "oof.csv").write_text((model / "oof.csv").read_text().replace("g1,", "g1b,", 1))
    found = wrong(check_checkpoint(facts, derived))
    assert found == [
        "temperature in config.json",
        "rule negative_below in config.json",
        "oof.csv of checkpoint and results",
    ]


def test_the_command_says_so_and_mends_what_is_older(model):
    results = gather(model).measured / "results.json"
    older = json.loads(results.read_text())
    older["one_view"].pop("brier")
    for place in (results, model / "results.json"):
        place.write_text(json.dumps(older))
    runner = CliRunner()
    failed = runner.invoke(app, ["reproduce", str(model)])
    assert failed.exit_code == 1
    assert "one view: brier" in failed.output
    assert runner.invoke(app, ["reproduce", str(model), "--write"]).exit_code == 0
    mended = json.loads(results.read_text())
    assert mended["command"] == older["command"]
    assert "brier" in mended["one_view"]
    assert mended == json.loads((model / "results.json").read_text())
    assert runner.invoke(app, ["reproduce", str(model)]).exit_code == 0


def test_scans_at_hand_are_held_against_what_was_measured_on_them(model):
    facts = gather(model)
    figures = {name: {"value": value} for name, value in (("accuracy", 0.401), ("ece", 0.3), ("macro_auc", 0.7))}
    evaluation = SimpleNamespace(summary=lambda: {"figures": figures})
    known = check_scans(facts, {"abroad": {"sha256": "abroad" * 9}}, evaluation)
    assert {check.what: check.agrees for check in known} == {"abroad: accuracy": True, "abroad: ece": False}
    trained = check_scans(facts, {"mine": {"sha256": "clinic" * 9}}, evaluation)
    assert [(check.stored, check.agrees) for check in trained] == [("seen in training", None)] * 2
    new = check_scans(facts, {"new": {"sha256": "x"}}, evaluation)
    assert [check.stored for check in new] == ["not measured before"] * 2


def test_without_answers_there_is_nothing_to_derive(model):
    facts = gather(model)
    for folder in (facts.folder, facts.measured):
        (folder / "oof.csv").unlink()
    with pytest.raises(DataError, match="out-of-fold"):
        facts.tables()


def test_pictures_of_patients_stay_out_of_a_checkout(tmp_path):
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    with pytest.raises(ConfigError, match="git checkout"):
        refuse_repository(tmp_path / "repo" / "docs" / "pictures")
    refuse_repository(tmp_path / "elsewhere")


def test_what_decided_must_be_known(model):
    facts = gather(model)
    facts.results["decisions"]["by"] = "a coin"
    with pytest.raises(CheckpointError, match="a coin"):
        derive_again(facts)
