"""A card holds every figure of the results, says what failed elsewhere, and is metadata that the Hub reads."""

import json

import pytest
from huggingface_hub import ModelCard

from bcx.errors import CheckpointError
from bcx.report import tables
from bcx.report.card import card_text, write_card
from bcx.report.facts import gather

SLIM = "9bd89aab2da0bfa373b89bb07b6dbdff22360a5176182a272affefdbb9e1fe23"


def test_the_hub_reads_the_metadata(model):
    card = ModelCard(write_card(model).read_text("utf-8"))
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-classification"
    results = gather(model).results
    told = {(r.dataset_type, r.metric_type): r.metric_value for r in card.data.eval_results}
    for source in ("clinic", "other"):
        assert told[source, "accuracy"] == round(results["sources"][source]["one_view"]["accuracy"]["value"], 4)
    assert told["external-abroad", "accuracy"] == 0.4
    assert not list(model.glob(".*.partial"))


def test_every_table_is_there_with_its_n_and_intervals(model):
    text = card_text(gather(model))
    results = gather(model).results
    figure = results["one_view"]["kappa"]
    assert f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" in text
    for heading in (
        "All scans",
        "clinic: 60 scans",
        "By fold",
        "Reliability before",
        "Risk and coverage",
        "The decision",
    ):
        assert f"### {heading}" in text
    assert "{" not in text.split("```")[2]  # no word was left to fill in
    assert " None" not in text


def test_a_failure_elsewhere_is_said_in_so_many_words(model):
    text = card_text(gather(model))
    assert "It fails there" in text
    assert "finds 30.0 % (20.0 to 40.0) of the malignant ones" in text


def test_terms_of_data_and_starting_weights_are_named(model):
    config = json.loads((model / "config.json").read_text())
    training = config["bcx"]["training"]
    training["data"]["busi"] = training["data"].pop("clinic")
    training["recipe"]["init"] = {"file": "a.safetensors", "sha256": SLIM}
    (model / "config.json").write_text(json.dumps(config))
    text = card_text(gather(model))
    assert "carry no licence of their own" in text
    assert "TensorFlow-Slim (Apache-2.0)" in text


def test_a_network_that_is_a_mean_of_trainings_is_said_to_be_one(model):
    assert "the mean of" not in card_text(gather(model))
    ways, config = ["ultrasound-machines", "ultrasound"], json.loads((model / "config.json").read_text())
    recipe = config["bcx"]["training"]["recipe"]
    for more, words in (
        ({"averaged": ways}, "Its weights are the mean of 2 trainings"),
        ({"members": [{"averaged": ways}, {"seed": 1}]}, "The weights of 1 of the 2 networks are each the mean of 2"),
    ):
        config["bcx"]["training"]["recipe"] = recipe | more
        (model / "config.json").write_text(json.dumps(config))
        assert words in card_text(gather(model))


def test_figures_are_linked_where_they_were_drawn(model):
    assert "![" not in card_text(gather(model))
    folder = gather(model).measured / "figures"
    folder.mkdir()
    (folder / "roc-clinic.png").write_bytes(b"")
    assert "![ROC curves with 95 % bands: clinic](../../results/made-up/figures/roc-clinic.png)" in card_text(
        gather(model)
    )


def test_what_nobody_measured_has_no_figures(model):
    (model / "results.json").write_text(json.dumps({"what": "training only"}))
    text = card_text(gather(model))
    assert "None were measured" in text
    assert "## Limits" in text
    assert "Its probabilities are not calibrated" in text
    assert "Code and weights: Apache-2.0" in text
    assert "near-duplicates that nobody has found yet" not in text
    assert "model-index" not in text
    (model / "results.json").unlink()
    with pytest.raises(CheckpointError, match=r"results\.json"):
        gather(model)


def test_coverage_is_what_is_right_among_the_surest(model):
    results = gather(model).results
    table = tables.coverage_table(results["risk_coverage"])
    whole = dict(zip(table.head, table.rows[0], strict=True))
    assert whole["answered"] == "100 %"
    decided = results["decisions"]["sources"]["clinic"]["accuracy"]["value"]
    assert float(whole["clinic"].split(" %")[0]) == pytest.approx(100 * decided, abs=0.06)
