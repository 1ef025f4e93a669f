"""The Model tab says what the results say: plainly first, then everything."""

import json
import re
import shutil
from collections import Counter
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest

from bcx.app.markup import html as macros
from bcx.app.model_tab import model_html, reliability_chart, risk_chart
from bcx.report.facts import gather
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")
SHIPPED = sorted(Path(__file__).resolve().parents[2].glob("checkpoints/*/config.json"))


def shown(folder: Path) -> str:
    return model_html(SimpleNamespace(folder=folder, name=folder.name, task=TASK))


@pytest.mark.parametrize("config", SHIPPED, ids=lambda config: config.parent.name)
def test_a_shipped_model_is_told_plainly_and_whole(config):
    html = shown(config.parent)
    facts = gather(config.parent)
    plain, expert = html.split('class="bcx-expert"')
    for word in ("ROC", "fold", "calibration", "interval"):
        assert word not in unescape(plain)
    assert "no doctor and no medical device" in plain
    decided = facts.results.get("decisions", {}).get("sources", {}) if facts.config["bcx"].get("decisions") else {}
    told = [int(number) for number in re.findall(r"<b>(\d+)</b> w", plain)]
    dots = [[svg.count(f"bcx-{kind}") for kind in ("right", "referred", "wrong")] for svg in plain.split("<svg")[1:]]
    assert all(sum(each) == 100 for each in dots)
    assert len(dots) == len(told)
    positive, expected = facts.task.positive, []
    for part in decided.values():
        rows = {true: dict(row) for true, row in part["confusion"].items()}
        ill, well = Counter(rows.pop(positive)), Counter()
        for row in rows.values():
            well.update(row)
        right = ill[positive] + sum(row[true] for true, row in rows.items())
        wrong = {True: sum(ill.values()) - ill[positive] - ill["refer"], False: well[positive]}
        answers = ill.total() + well.total() - ill["refer"] - well["refer"]
        expected += [wrong[True] / ill.total(), wrong[False] / well.total(), right / answers]
    assert decided
    assert told == [round(100 * share) for share in expected]
    for found in facts.external.values():
        assert f"was right on {round(100 * found['figures']['accuracy']['value'])} of 100" in plain
    accuracy = facts.results["one_view"]["accuracy"]
    assert f"{100 * accuracy['value']:.1f} % ({100 * accuracy['low']:.1f} to" in expert
    assert expert.count("<svg") >= 2
    assert expert.count("bcx-confusion") >= 1


def test_a_model_without_figures_says_so(tmp_path):
    assert "Nobody has measured this model" in shown(tmp_path / "<b>new</b>")
    assert "<b>new</b>" not in shown(tmp_path / "<b>new</b>")


def test_a_model_with_damaged_figures_is_told_as_one_without(tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    shutil.copy(SHIPPED[0], folder)
    results = json.loads((SHIPPED[0].parent / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(results))
    assert "For experts" in shown(folder)
    del results["decisions"]["sources"]["busi"]["confusion"]["benign"]["malignant"]
    (folder / "results.json").write_text(json.dumps(results))
    assert "Nobody has measured this model" in shown(folder)


def test_a_model_that_decides_nothing_is_told_by_its_most_probable_class(tmp_path):
    folder = tmp_path / "plain"
    folder.mkdir()
    config, results = (json.loads((SHIPPED[0].parent / f"{name}.json").read_text()) for name in ("config", "results"))
    del config["bcx"]["decisions"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps(results))
    plain = shown(folder).split('class="bcx-expert"')[0]
    view = results["one_view"]
    told = [int(number) for number in re.findall(r"<b>(\d+)</b> w", plain)]
    shares = 1 - view["sensitivity_malignant"]["value"], 1 - view["specificity_malignant"]["value"]
    assert told == [round(100 * share) for share in (*shares, view["accuracy"]["value"])]
    assert "referred" not in re.sub("<svg.*?</svg>", "", plain)


def test_dots_are_as_many_as_was_said():
    drawn = macros.dots(37, 0, 63)
    assert [drawn.count(f'class="bcx-{kind}"') for kind in ("right", "referred", "wrong")] == [37, 0, 63]
    assert macros.dots(70, 20, 10).count('class="bcx-referred"') == 20


def test_charts_draw_each_point_where_it_belongs():
    rows = [
        {"confidence": 0.6, "right": 0.5, "low": 0.3, "high": 0.7},
        {"confidence": 1, "right": 1, "low": None, "high": None},
    ]
    chart = reliability_chart({"bins": rows}, "a < b")
    points = [tuple(map(float, pair)) for pair in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart)]
    (x1, y1), (x2, y2) = points
    assert "a &lt; b" in chart
    assert chart.count("bcx-span") == 1
    assert (x2, y2) == (286, 8)  # the upper right corner
    # from 20 % on: 0.6 is half way across, 0.5 three eighths of the way up
    assert (x1, y1) == (pytest.approx(46 + 120), pytest.approx(8 + 240 * 5 / 8))
    curve = {"answered": [0.5, 1.0], "wrong": [0.1, 0.2], "low": [0.05, None], "high": [0.15, 0.25]}
    drawn = risk_chart(curve, (1.0, 0.2), "risk")
    line = re.search(r'<polyline points="([^"]+)"', drawn)[1].split()
    mark = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="5"', drawn)
    assert line[-1] == f"{float(mark[1]):.1f},{float(mark[2]):.1f}"
