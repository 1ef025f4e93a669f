"""No figure is said that was not measured: every number in a card or a results block of a page is in a results file."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score, roc_curve

from bcx.evaluate.derived import HARM
from bcx.evaluate.intervals import paired_bootstrap
from bcx.evaluate.metrics import ranked_auc
from bcx.evaluate.oof import logits_of, read_oof
from bcx.report.card import card_text
from bcx.report.facts import gather
from bcx.studies.decisions import fit_elsewhere, transfer_answers
from bcx.tasks import get_task
from bcx.trust.calibration import apply_temperature
from bcx.trust.rule import Decider
from tests.test_docs import figures_module

ROOT = Path(__file__).resolve().parents[1]
CARDS = sorted(ROOT.glob("checkpoints/*/README.md"))
PAGES = [ROOT / "README.md", *(ROOT / "docs" / "explanation" / name for name in ("figures.md", "seeing-lesions.md"))]
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?|(?<![\w.])\.\d+")
# Numbers that are no figures: names, citations, conventions.
WORDS = (
    r"```.*?```|`[^`]*`|\[doi:[^\]]*\]|\]\([^)]*\)|https?://\S+|sha256 \S+",
    r"95 %(?= (?:bootstrap |bands|intervals?))|\(?95 % (?=intervals?)|90 and 95 % sensitivity",
    r"\b(?:19|20)\d\d\b|R\d|1\.0(?= trained)|1,000-class|480 ultrasound|\(0 to 2\)|acting at 0\.1",
    r"\(600 of them|(?<=below )3 %|3 to 8 %|8 % or more|\d+(?:,000)? scans(?= \||,)|\b100 %(?= \|)",
    r"mobilenetv2_100|Apache-2\.0|MobileNetV2|GE LOGIQ E9|batch 1\b|1,000 scans|10,000 against 1,000|for 3 classes",
)


def leaves(value: object) -> set[float]:
    if isinstance(value, dict):
        return {leaf for part in value.values() for leaf in leaves(part)}
    if isinstance(value, list):
        return {leaf for part in value for leaf in leaves(part)}
    if isinstance(value, str):  # such as "<= 1.15 x" among the benchmark's floors, and settings in a command
        return {float(number.replace(",", "")) for number in NUMBER.findall(value)}
    return {float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else set()


def read(files) -> set[float]:
    return {leaf for file in files for leaf in leaves(json.loads(file.read_text("utf-8")))}


def strangers(text: str, known: set[float]) -> list[str]:
    """The numbers in `text` that no known value becomes when it is rounded likewise, as it is or in per cent."""
    for words in WORDS:
        text = re.sub(words, " ", text, flags=re.DOTALL)
    said: dict[int, set[str]] = {}
    found = []
    for number in NUMBER.findall(text):
        plain = number.replace(",", "")
        digits = len(plain.partition(".")[2])
        if digits not in said:
            shares = {value for leaf in known for value in (abs(leaf), 100 * abs(leaf), 1 - leaf, 100 * (1 - leaf))}
            said[digits] = {f"{value:.{digits}f}" for value in shares}
        if f"{float(plain):.{digits}f}" not in said[digits] and not re.fullmatch(r"\d", plain):
            found.append(number)
    return found


def sources_of(card: Path) -> list[Path]:
    name = card.parent.name
    studies = (ROOT / "results" / "studies").glob(f"*/{name}/*.json")
    own = [card.parent / "results.json", card.parent / "config.json", *(ROOT / "results" / name).rglob("*.json")]
    return [*own, *studies]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_a_card_is_what_its_results_say(card):
    facts = gather(card.parent)
    assert card.read_text("utf-8") == card_text(facts), f"Run `bcx card {card.parent.name}`."
    body = card.read_text("utf-8").split("\n---\n", 1)[1]
    assert strangers(body, read(sources_of(card))) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_figure_of_a_page_is_in_a_results_file(page):
    figures = figures_module()
    block = page.read_text("utf-8").split(figures.BEGIN)[1].split(figures.END)[0]
    assert strangers(block, read((ROOT / "results").rglob("*.json"))) == []


def test_a_figure_that_nobody_measured_is_found():
    known = {0.82345, 651.0, 1.19}
    assert strangers("| accuracy | 82.3 % (17.7 to 82) | 651 |, .823, 1.2; 2020, `7.7`", known) == []
    assert strangers("accuracy 82.4 %, .999 on 1,651 scans", known) == ["82.4", ".999", "1,651"]


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", cell)]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_the_rows_of_a_card_say_the_figure_that_they_name(card):
    """Said once more without the writer's own code: the row's name finds the figure, not its value."""
    text = card.read_text("utf-8")
    results = json.loads((card.parent / "results.json").read_text("utf-8"))
    classes = list(results["report"]["counts"])
    parts = {source: part["one_view"] for source, part in results.get("sources", {}).items()}
    checked = 0
    for title, view in {"All scans": results["one_view"], "Out of fold": results["one_view"], **parts}.items():
        for section in re.findall(rf"^### {title}[:\n][^#]*|^### {title}, by class[^#]*", text, flags=re.MULTILINE):
            for words, *cells in re.findall(r"^\| ([^|]+) \|((?: [^|]+ \|)+)$", section, flags=re.MULTILINE):
                told = [cell.strip() for cell in cells[0].strip(" |").split("|")]
                keys = names(words, classes, by_class="by class" in section)
                for key, cell in zip(keys, told, strict=False):
                    figure = view[key]
                    if figure["value"] is None:
                        assert cell == "no such scans"
                        continue
                    scale, within = (100, 0.05) if "%" in cell else (1, 0.0005)
                    expected = [scale * figure[end] for end in ("value", "low", "high")]
                    assert numbers(cell) == pytest.approx(expected, abs=within + 1e-9), (title, words, key)
                    checked += 1
    assert checked >= 10 * len(classes)


def names(words: str, classes: list[str], by_class: bool) -> list[str]:
    if by_class:
        kinds = {"recall": "sensitivity", "ROC-AUC": "auc", "PR-AUC": "pr_auc", "net": "net_benefit", "F1": "f1"}
        kinds |= {"precision": "precision", "specificity": "specificity"}
        kind = kinds.get(words.split()[0])
        return [f"{kind}_{name}" for name in classes] if kind else []
    found = {
        **{"accuracy": "accuracy", "balanced accuracy (macro recall)": "balanced_accuracy", "MCC": "mcc"},
        **{"Cohen's kappa": "kappa", "log-loss": "log_loss", "calibration error (ECE)": "ece"},
        **{"ROC-AUC, macro": "macro_auc", "PR-AUC, macro": "macro_pr_auc", "macro F1": "macro_f1"},
        "ROC-AUC, malignant against benign": "auc_malignant_vs_benign",
    }
    return [found[words]] if words in found else []


def test_the_trials_in_another_hospital_come_out_again_from_each_scans_answers():
    folder = ROOT / "results" / "studies" / "mobilenetv2-lesion-machines"
    answers, noted = pd.read_csv(folder / "trials.csv"), json.loads((folder / "trials.json").read_text("utf-8"))
    malignant = answers["label"] == "malignant"
    assert len(answers) == noted["trials"][0]["lesions"]
    for trial in noted["trials"]:
        logits = answers[[f"{trial['trial']}_logit_{name}" for name in ("normal", "benign", "malignant")]].to_numpy()
        assert roc_auc_score(malignant, logits[:, 2] - logits[:, 1]) == pytest.approx(trial["auc"]["value"], abs=1e-4)
        called = logits.argmax(axis=1)
        assert (called == 0).mean() == pytest.approx(trial["lesions_called_absent"]["value"])
        assert (called[malignant] == 2).mean() == pytest.approx(trial["sensitivity"]["value"])
    outline = roc_auc_score(malignant, answers["before_height_to_width"])
    assert outline == pytest.approx(noted["outline"]["auc"]["value"], abs=1e-3)  # stored with three digits


def test_what_further_looks_are_worth_comes_out_again_from_each_scans_answers():
    folder, names = ROOT / "results" / "studies" / "mobilenetv2-lesion-looks", ("normal", "benign", "malignant")
    answers, noted = pd.read_csv(folder / "looks.csv"), json.loads((folder / "looks.json").read_text("utf-8"))
    busi, busbra = (answers[answers["source"] == source] for source in ("busi", "busbra"))
    for way in noted["ways"]:
        columns = [f"{way['way']}_logit_{name}" for name in names]
        share = softmax(busi[columns].to_numpy(), axis=1)
        macro = roc_auc_score(busi["label"], share[:, [1, 2, 0]], multi_class="ovr", labels=sorted(names))
        assert macro == pytest.approx(way["busi"]["macro_auc"]["value"], abs=1e-6)
        right = np.array(names)[share.argmax(axis=1)] == busi["label"]
        assert right.mean() == pytest.approx(way["busi"]["accuracy"]["value"])
        kind = busbra[columns[2]] - busbra[columns[1]]
        auc = roc_auc_score(busbra["label"] == "malignant", kind)
        assert auc == pytest.approx(way["busbra"]["auc"]["value"], abs=1e-4)  # answers are stored with three digits
    # The first way is the model before its heads were averaged.
    plain = json.loads((kind_folder("each-kind") / "results.json").read_text("utf-8"))["sources"]
    for source, figure in (("busi", "macro_auc"), ("busi", "accuracy"), ("busbra", "auc_malignant_vs_benign")):
        noted_here = noted["ways"][0][source].get(figure) or noted["ways"][0][source]["auc"]
        assert noted_here["value"] == pytest.approx(plain[source]["one_view"][figure]["value"], abs=1e-3)


def test_what_averaging_adds_comes_out_again_from_both_models_answers():
    task, averaged = get_task("breast-ultrasound"), ROOT / "results" / "mobilenetv2-lesion"
    rows = json.loads((kind_folder("each-kind") / "against.json").read_text("utf-8"))["rows"]
    for row in rows:
        abroad = row["train_on"] in ("busi", "busbra")
        file = f"transfer/hospital-{row['train_on']}/oof.csv" if abroad else "oof.csv"
        found, weighted = [], []
        for folder in (averaged, kind_folder("each-kind")):
            frame = read_oof(folder / file, task).sort_values("file")
            frame = frame[(frame["source"] == row["score_on"]) & (frame["label"] != "normal")]
            weighted.append(ranked_auc(margin(frame).to_numpy(), (frame["label"] == "malignant").to_numpy()))
            found.append(area(frame))
            assert len(frame) == row["lesions"]
        assert found == pytest.approx([row["averaged"], row["each_kind"]])
        assert row["difference"]["value"] == pytest.approx(found[0] - found[1])
        (interval,) = paired_bootstrap(
            lambda w, areas=weighted: np.array([[each(w)] for each in areas]), frame["group"].to_numpy(str)
        )
        ends = row["difference"]["low"], row["difference"]["high"]
        assert (interval["low"], interval["high"]) == pytest.approx(ends, abs=2e-3)
    assert [row["difference"]["low"] > 0 for row in rows] == [False, False, True, True]
    # What the page says of fold 0, beside the tables.
    said = []
    for folder in (kind_folder("each-kind"), averaged):
        frame = read_oof(folder / "oof.csv", task)
        for source in ("busi", "busbra"):
            part = frame[(frame["fold"] == 0) & (frame["source"] == source)]
            best = part[[f"logit_{name}" for name in task.classes]].to_numpy().argmax(axis=1)
            said += [area(part), (np.array(task.classes)[best] == part["label"]).mean()]
    before, right, other, _, after, later, beyond, _ = map(digits, said)
    text = " ".join(PAGES[-1].read_text("utf-8").split())
    assert f"malignant against benign comes to {before} and {after}, its accuracy to {right} and {later}" in text
    assert f"BUS-BRA's ROC-AUC to {other} and {beyond}." in text


def test_what_an_unseen_machine_costs_comes_out_again_from_each_scans_answers():
    task, folders = get_task("breast-ultrasound"), {kind: kind_folder(kind) for kind in ("alone", "machines")}
    both = json.loads((folders["machines"] / "unseen" / "both.json").read_text("utf-8"))
    noted = both["rows"]
    seen = read_oof(folders["alone"] / "oof.csv", task).set_index("file")
    averaged = pd.read_csv(folders["machines"] / "unseen" / "averaged.csv").set_index("file")
    for row in noted:
        slug = "*" if row["machine"] == "both" else "machine-" + re.sub(r"[^a-z0-9]+", "-", row["machine"].lower())
        alone, machines = (
            pd.concat([read_oof(file, task) for file in sorted(folder.glob(f"unseen/{slug}/oof.csv"))]).set_index(
                "file"
            )
            for folder in folders.values()
        )
        ways = {"alone": (alone,), "machines": (machines,), "mean": (alone, machines), "seen": (seen,)}
        way = (ways | {"averaged": (averaged,)})[row["way"]]
        auc = roc_auc_score(alone["label"] == "malignant", sum(margin(part).loc[alone.index] for part in way))
        assert (auc, len(alone)) == (pytest.approx(row["auc"]["value"], abs=1e-4), row["lesions"])
    pooled = {row["way"]: row["auc"]["value"] for row in noted if row["machine"] == "both"}
    assert pooled["mean"] - pooled["alone"] == pytest.approx(both["mean_against_alone"]["value"])
    for row in both["known"]:
        files = [folders["machines"] / f"fold-{fold}" / "oof.csv" for fold in row["folds"]]
        varied = pd.concat([read_oof(file, task) for file in files]).set_index("file")
        varied = varied[(varied["source"] == row["score_on"]) & (varied["label"] != "normal")]
        way = {"machines": varied, "alone": seen.loc[varied.index]}[row["way"]]
        assert (area(way), len(way)) == (pytest.approx(row["auc"]["value"], abs=1e-5), row["lesions"])
    # The command line's own studies say the same.
    for kind, folder in folders.items():
        table = json.loads((folder / "unseen" / "results.json").read_text("utf-8"))["table"]
        said = {row["score_on"]: row["auc"] for row in table if "pooled" not in row["score_on"]}
        assert said == {row["machine"]: row["auc"] for row in noted if row["way"] == kind and row["machine"] != "both"}


def kind_folder(kind: str) -> Path:
    return ROOT / "results" / "studies" / f"mobilenetv2-lesion-{kind}"


TRANSFER = (ROOT / "docs" / "explanation" / "transfer.md").read_text("utf-8")
STUDIES = ROOT / "results" / "studies"
LEFT_OUT = STUDIES / "left-out"
BOTH = ROOT / "results" / "mobilenetv2-hospitals" / "transfer"


def margin(frame: pd.DataFrame) -> pd.Series:
    return frame["logit_malignant"] - frame["logit_benign"]


def area(frame: pd.DataFrame) -> float:
    """Malignant against benign, over the lesions of a table of answers."""
    lesions = frame[frame["label"] != "normal"]
    return roc_auc_score(lesions["label"] == "malignant", margin(lesions))


def digits(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def spans(group: np.ndarray, figures: Callable[[np.ndarray], object], seed: int = 0) -> np.ndarray:
    """The 95 % intervals of some figures of rows, by 300 draws of whole groups."""
    rows = pd.Series(np.arange(len(group))).groupby(group).apply(np.asarray).tolist()
    rng = np.random.default_rng(seed)
    some = (np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))]) for _ in range(300))
    return np.quantile([figures(each) for each in some], [0.025, 0.975], axis=0).T


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hospital", "before", "said"),
    [
        ("busi", "mobilenetv2-lesion/transfer/hospital-busbra/oof.csv", "+.019 (-.006 to .044)"),
        ("busbra", "mobilenetv2-lesion/transfer/hospital-busi/oof.csv", "+.076 (.054 to .098)"),
        ("breast", "studies/decisions/mobilenetv2-lesion/answers-breast.csv", "+.001 (-.014 to .016)"),
    ],
)
def test_what_a_third_hospital_is_worth_comes_out_of_the_answers(hospital, before, said):
    assert said in TRANSFER
    now = pd.read_csv(BOTH / f"without-{hospital}" / "oof.csv")
    if hospital == "breast":
        assert f"stops {100 * (now['distance'] > 2.5).mean():.1f} % of BrEaST" in TRANSFER.replace("\n", " ")
    else:
        assert not (now["distance"] > 2.5).any()
    then = pd.read_csv(ROOT / "results" / before).set_index("file").loc[now["file"]].reset_index()
    lesion = (now["label"] != "normal").to_numpy()
    truth, odds = (now["label"] == "malignant").to_numpy()[lesion], [margin(f).to_numpy()[lesion] for f in (now, then)]

    def gain(some: np.ndarray) -> float:
        return roc_auc_score(truth[some], odds[0][some]) - roc_auc_score(truth[some], odds[1][some])

    value, *ends = (float(number) for number in re.findall(r"[-+]?\.\d+", said))
    assert gain(np.arange(len(truth))) == pytest.approx(value, abs=0.0006)
    assert spans(now["group"].to_numpy()[lesion], gain, seed=1) == pytest.approx(ends, abs=0.01)


@pytest.mark.parametrize("hospital", ["busi", "busbra", "breast"])
def test_two_trainings_and_each_alone_are_what_their_answers_say(hospital):
    row = next(each for each in TRANSFER.splitlines() if each.lower().replace("-", "").startswith(f"| {hospital} | "))
    alone = [LEFT_OUT / f"mobilenetv2-lesion-machines{seed}" for seed in ("", "-seed-1", "-seed-2")]
    areas = [area(pd.read_csv(f / f"without-{hospital}" / "oof.csv")) for f in (*alone, BOTH)]
    said, most = list(map(digits, areas)), re.search(r"Three seeds differ by up to (\S+) points", TRANSFER)
    assert f"| {said[0]}, {said[1]}; {said[2]} |" in row
    assert f"| {said[3]} (" in row
    assert most is not None
    assert 100 * np.ptp(areas[:3]) <= float(most[1]) + 0.05
    name = {"busi": "BUSI", "busbra": "BUS-BRA", "breast": "BrEaST"}[hospital]
    assert f"{digits(np.mean(areas[:3]))} in {name}" in TRANSFER.replace("\n", " ")
    if hospital == "busbra":
        assert f"other seeds reach {said[1]} and {said[2]} in BUS-BRA" in TRANSFER.replace("\n", " ")


def specificity(ill: np.ndarray, odds: np.ndarray) -> float:
    """Of the benign lesions, those below the highest threshold that finds 95 % of the cancers."""
    false_alarms, found, _ = roc_curve(ill, odds)
    return float(1 - false_alarms[found >= 0.95].min())


def share(found: dict[str, float]) -> str:
    return "{:.1f} % ({:.1f} to {:.1f})".format(*(100 * found[end] for end in ("value", "low", "high")))


@pytest.mark.parametrize("hospital", ["BUSI", "BUS-BRA", "BrEaST"])
def test_what_the_roc_auc_leaves_out_comes_from_answers_and_maps(hospital):
    rows = TRANSFER.split("What the ROC-AUC leaves out", 1)[1].splitlines()
    row = next(each for each in rows if each.startswith(f"| {hospital} | "))
    name = hospital.lower().replace("-", "")
    frame = pd.read_csv(BOTH / f"without-{name}" / "oof.csv").query("label != 'normal'")
    ill, odds = (frame["label"] == "malignant").to_numpy(), margin(frame).to_numpy()
    value, *ends = (float(number) for number in re.findall(r"\.\d+", row.split("|")[2]))
    assert specificity(ill, odds) == pytest.approx(value, abs=0.0006)
    some = spans(frame["group"].to_numpy(), lambda some: specificity(ill[some], odds[some]))
    assert some == pytest.approx(ends, abs=0.01)
    found = json.loads((LEFT_OUT / "localisation" / f"{name}.json").read_text("utf-8"))["localisation"]
    overlap = f"{digits(found['all']['iou']['value'])} ("
    assert f"| {share(found['all']['heat_inside'])} | {share(found['all']['pointing'])} | {overlap}" in row
    if hospital == "BrEaST":
        small = found["by_size"]["small (below 3 %)"]
        said = f"{100 * small['heat_inside']['value']:.0f} % of their heat lies inside, and the hottest pixel of "
        assert f"{said}{100 * small['pointing']['value']:.0f} %" in TRANSFER
        before = json.loads((ROOT / "results/mobilenetv2-lesion/external-breast.json").read_text("utf-8"))
        parts = [before["localisation"]["all"][each] for each in ("heat_inside", "pointing")]
        assert f"{share(parts[0])} and {share(parts[1])}" in TRANSFER


def test_what_did_not_help_comes_from_the_trials_and_the_answers():
    trials = json.loads((LEFT_OUT / "tried.json").read_text("utf-8"))
    table = TRANSFER.split("### What did not help", 1)[1].split("\nNothing here", 1)[0].split(" --- |\n", 1)[1]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    rows = {name: areas for name, *areas in cells}
    hospitals = ("busi", "busbra", "breast")
    for part, seed in (("reading", "third"), ("crops", "first")):
        for name in trials[part]["busi"]:
            row = rows.pop(f"{seed} seed, as it is" if name == "as it is" else name, None)
            assert row in (None, [digits(trials[part][each][name]["auc"]["value"]) for each in hospitals])
    birads = area(pd.read_csv(LEFT_OUT / "mobilenetv2-lesion-birads" / "without-breast" / "oof.csv"))
    assert rows.pop('"malignant" learned to 30 % from BI-RADS categories (BUS-BRA\'s)')[2] == digits(birads)
    names = [*(f"mobilenetv2-lesion-machines{seed}" for seed in ("", "-seed-1", "-seed-2"))]
    names.append("efficientnet-lite0-lesion-machines")
    means, least = [], 1.0
    for hospital in hospitals:
        frames = [pd.read_csv(LEFT_OUT / name / f"without-{hospital}" / "oof.csv").set_index("file") for name in names]
        odds = pd.concat([margin(frame) for frame in frames], axis=1)
        lesion = frames[0]["label"] != "normal"
        means.append(digits(roc_auc_score(frames[0]["label"][lesion] == "malignant", odds.mean(axis=1)[lesion])))
        least = min(least, odds[lesion].corr().to_numpy().min())
    assert rows.pop("four networks averaged: three seeds and EfficientNet-Lite0") == means
    assert f"agree to {least:.2f} or more".replace("0.", ".") in TRANSFER
    assert not rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hospital", "folds", "left_out", "at_home"),
    [
        ("busi", ".929 in BUSI", ".023 (.005 to .046)", ".020 (.009 to .035) in BUSI"),
        ("busbra", ".907 in BUS-BRA", ".050 (.035 to .065)", ".014 (.006 to .025) in BUS-BRA"),
        ("breast", ".875 in BrEaST", ".012 (-.019 to .039)", None),
    ],
)
def test_what_a_hospital_of_ones_own_is_worth_comes_out_of_the_answers(hospital, folds, left_out, at_home):
    own = pd.read_csv(ROOT / "results/studies/mobilenetv2-hospitals-folds/oof.csv").set_index("file")
    own = own[(own["source"] == hospital) & (own["label"] != "normal")]
    truth, text = (own["label"] == "malignant").to_numpy(), TRANSFER.replace("\n", " ")
    for model, said, sign in (("mobilenetv2-hospitals", left_out, 1), ("mobilenetv2-lesion", at_home, -1)):
        if said is None:
            continue
        other = pd.read_csv(ROOT / "results" / model / "oof.csv").set_index("file").loc[own.index]
        odds = [margin(each).to_numpy() for each in (own, other)]

        def gain(some: np.ndarray) -> float:
            one, two = (roc_auc_score(truth[some], each[some]) for each in odds)  # noqa: B023
            return sign * (one - two)  # noqa: B023

        value, *ends = (float(number) for number in re.findall(r"-?\.\d+", said))
        assert said in text
        assert gain(np.arange(len(truth))) == pytest.approx(value, abs=0.0006)
        assert spans(own["group"].to_numpy(), gain) == pytest.approx(ends, abs=0.006)
    assert folds in text
    assert roc_auc_score(truth, margin(own)) == pytest.approx(float(folds.split()[0]), abs=0.0006)


@pytest.mark.parametrize("network", ["EfficientNet-Lite0", "EfficientNet-Lite2", "ResNet-50, from scratch"])
@pytest.mark.parametrize("hospital", ["BUSI", "BUS-BRA", "BrEaST"])
def test_another_backbone_is_what_its_answers_say(hospital, network):
    row = next(line for line in TRANSFER.splitlines() if line.startswith(f"| {hospital} | {network} | "))
    said = [float(number) for number in re.findall(r"-?\.\d+", row)]
    part = f"without-{hospital.lower().replace('-', '')}"
    folder = "resnet50-lesion-short" if network.startswith("ResNet-50") else f"{network.lower()}-lesion-machines"
    frames = [
        pd.read_csv(LEFT_OUT / name / part / "oof.csv").set_index("file")
        for name in (folder, "mobilenetv2-lesion-machines")
    ]
    frame = frames[0][frames[0]["label"] != "normal"]
    truth, odds = (frame["label"] == "malignant").to_numpy(), [margin(f).loc[frame.index].to_numpy() for f in frames]

    def figures(some: np.ndarray) -> list[float]:
        one, other = (roc_auc_score(truth[some], each[some]) for each in odds)
        return [one, one - other, other]

    one, gain, other = figures(np.arange(len(frame)))
    assert [said[0], said[3], said[4]] == pytest.approx([one, other, gain], abs=0.0006)
    found = spans(frame["group"].to_numpy(), figures)
    assert [said[1:3], said[5:7]] == [pytest.approx(span, abs=0.01) for span in found[:2]]


def test_one_network_of_lite2_finds_lesions_as_two_of_mobilenetv2_do():
    for name in ("efficientnet-lite2", "mobilenetv2"):
        file = LEFT_OUT / "localisation" / f"breast-{name}-alone.json"
        found = json.loads(file.read_text("utf-8"))["localisation"]["all"]
        for figure in ("heat_inside", "pointing"):
            assert share(found[figure]) in TRANSFER


@pytest.mark.slow
def test_what_the_context_takes_from_normal_scans_comes_out_of_the_answers():
    alone = [LEFT_OUT / f"mobilenetv2-lesion-machines{seed}" for seed in ("", "-seed-1")]
    temperature = json.loads((BOTH.parent / "results.json").read_text("utf-8"))["temperature"]
    frames = [pd.read_csv(folder / "without-busi" / "oof.csv") for folder in (BOTH, *alone)]
    logits = [frame[["logit_normal", "logit_benign", "logit_malignant"]].to_numpy() for frame in frames]
    ways = [each / temperature for each in (logits[0], (logits[1] + logits[2]) / 2)]
    odds = [each[:, 0] - np.logaddexp(each[:, 1], each[:, 2]) for each in ways]
    normal = (frames[0]["label"] == "normal").to_numpy()

    def figures(some: np.ndarray) -> list[float]:
        now, then = (roc_auc_score(normal[some], each[some]) for each in odds)
        return [now, then, now - then]

    numbers = [r"(\.\d+) \((\.\d+) to (\.\d+)\)"] * 3
    said = re.search(
        f"BUSI left out: ROC-AUC {numbers[0]}; .*? context {numbers[1]}, paired {numbers[2]} less",
        TRANSFER.replace("\n", " "),
    )
    assert said is not None
    told = np.array([float(number) for number in said.groups()]).reshape(3, 3)
    assert told[:, 0] == pytest.approx(figures(np.arange(len(normal))), abs=0.0006)
    assert told[:, 1:] == pytest.approx(spans(frames[0]["group"].to_numpy(), figures), abs=0.015)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("efficientnet-lite0-lesion-machines", "says the same: {} with its context, {} without;"),
        ("efficientnet-lite2-lesion-machines", "Nor did EfficientNet-Lite2: {} with its context, {} without."),
        ("mobilenetv2-lesion-machines-seed-2", "which took no part in the choice: {} with its context, {} without."),
    ],
)
def test_other_networks_gain_as_much_without_their_context(network, said):
    areas = []
    for name in ("oof.csv", "without-context.csv"):
        frame = pd.read_csv(LEFT_OUT / network / "without-busi" / name)
        odds = frame["logit_normal"] - np.logaddexp(frame["logit_benign"], frame["logit_malignant"])
        areas.append(digits(roc_auc_score(frame["label"] == "normal", odds)))
    assert said.format(*areas) in TRANSFER.replace("\n", " ")


def test_the_mean_harm_over_hospitals_is_that_of_the_studies():
    for model, missed, referred in (("hospitals", "3.4 %", "48 %"), ("lesion", "2.4 %", "54 %")):
        study = json.loads((STUDIES / "decisions" / f"mobilenetv2-{model}" / "decisions.json").read_text("utf-8"))
        which = ("elsewhere", "by the other hospitals", "default")
        rows = [row for row in study["table"] if (row["where"], row["rule"], row["point"]) == which]
        assert f"{100 * np.mean([row['missed']['value'] for row in rows]):.1f} %" == missed
        assert f"{100 * np.mean([row['referred']['value'] for row in rows]):.0f} %" == referred
        assert missed in TRANSFER
        assert referred in TRANSFER


@pytest.mark.parametrize("model", ["mobilenetv2-hospitals", "mobilenetv2-lesion", "mobilenetv2-busi"])
def test_a_models_figures_are_those_of_the_rule_that_it_ships(model):
    """Its card and its page say what the study of decisions says, and the rule is the stored one."""
    config, results = (
        json.loads((ROOT / "checkpoints" / model / f"{name}.json").read_text("utf-8")) for name in ("config", "results")
    )
    study = json.loads((ROOT / "results/studies/decisions" / model / "decisions.json").read_text("utf-8"))
    stored = config["bcx"]
    assert (stored["temperature"], stored["decisions"]) == (study["temperature"], {"rule": study["rule"]})
    assert results["decisions"]["rules"] == stored["decisions"]
    way = ("elsewhere", "by the other hospitals") if "protocol" in results else ("home", "as stored")
    rows = {(row["hospital"], row["point"]): row for row in study["table"] if (row["where"], row["rule"]) == way}
    parts = {(source, "default"): part for source, part in results["decisions"]["sources"].items()}
    parts |= {(s, point): part for point, all_ in results["decisions"]["points"].items() for s, part in all_.items()}
    assert set(parts) == set(rows)
    for key, part in parts.items():
        assert {name: part[name] for name in HARM} == {name: rows[key][name] for name in HARM}


@pytest.mark.parametrize(
    ("hospital", "said"), [("busi", "55 % of BUSI"), ("busbra", "47 % of BUS-BRA"), ("breast", "38 % of BrEaST")]
)
def test_thresholds_of_its_own_would_hardly_refer_less(hospital, said):
    task, text = get_task("breast-ultrasound"), (ROOT / "docs/explanation/decisions.md").read_text()
    own = transfer_answers(ROOT / "results/mobilenetv2-hospitals/transfer", task)[hospital]
    temperature, rule = fit_elsewhere([own], task, ())
    probabilities = apply_temperature(logits_of(own.frame, task), temperature)
    _, reasons = Decider({"rule": rule.to_dict()}, task).decide_rows(probabilities, own.frame["distance"].to_numpy())
    assert f"{100 * np.mean([bool(each) for each in reasons]):.0f} % of" == said[:7]
    assert said in text


def test_how_much_quicker_a_training_is_comes_from_the_benchmarks():
    results = (ROOT / "results/benchmarks" / f"training{kind}.json" for kind in ("", "-bf16"))
    without, within = (json.loads(file.read_text("utf-8")) for file in results)
    assert without["machine"]["bf16"] is False
    said = (
        f"{without['ratio']:.2f} x as quick where the processor has no bfloat16, and was {within['ratio']:.2f} x where"
    )
    assert said in (ROOT / "CHANGELOG.md").read_text("utf-8").replace("\n", " ")
    page = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    before, now = (round(without["images_per_second"][code]) for code in ("before", "now"))
    assert f"**{without['ratio']:.2f} x** ({before} to {now} images/s, `training.json`)" in page
    assert f"and {within['ratio']:.2f} x (" in page


def test_what_outlines_tell_comes_from_the_study():
    page = (ROOT / "docs" / "how-to" / "explain-an-answer.md").read_text("utf-8")
    found = json.loads((STUDIES / "descriptors" / "descriptors.json").read_text("utf-8"))["sources"]
    said = {"corners": "more corners", "lobulation": "more lobulation", "depth_to_width": "deeper than wide"}
    said |= {"circularity": "less circular", "axis_ratio": "less elongated", "angle": "steeper"}
    said |= {"posterior_difference": "darker behind", "margin_width": "wider margin"}
    said |= {"echo_difference": "darker against fat"}
    for name, row in said.items():
        areas = [found[source]["auc"][name] for source in ("busi", "busbra", "breast")]
        cells = [f"{area['value']:.2f} ({area['low']:.2f} to {area['high']:.2f})" for area in areas]
        assert f"| {row} | {' | '.join(cells)} |" in page
    assert set(said) == set(found["busi"]["auc"])
    assert [found[source]["scans"] for source in ("busi", "busbra", "breast")] == [538, 1501, 252]


@pytest.mark.parametrize("model", ["mobilenetv2-hospitals", "mobilenetv2-lesion"])
def test_what_a_second_view_is_worth_comes_from_the_study(model):
    page = (ROOT / "docs" / "explanation" / "patients.md").read_text("utf-8")
    table = json.loads((STUDIES / "decisions" / model / "patients.json").read_text("utf-8"))["table"]
    for row in table:
        found = row["auc"]
        areas = [" to ".join(digits(found[part][end]) for end in ("low", "high")) for part in found]
        said = [f"{digits(found[part]['value'])} ({span})" for part, span in zip(found, areas, strict=True)]
        assert f"| ROC-AUC, malignant against benign | {said[0]} | {said[1]} | +{said[2]} |" in page
        for name, word in [("missed", "cancers answered normal or benign"), ("referred", "referred")]:
            shares = [
                {end: 100 * row[part][name][end] for end in ("value", "low", "high")} for part in ("scan", "patient")
            ]
            cells = " | ".join("{value:.1f} % ({low:.1f} to {high:.1f})".format(**share) for share in shares)
            assert f"| {word} | {cells} | |" in page
