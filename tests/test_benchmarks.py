"""The benchmark runs and writes what the README quotes. No time is judged here: that needs a quiet machine."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def speed(root, tiny_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark") / "speed.json"
    command = [sys.executable, "benchmarks/speed.py", "--quick", "--threads", "1", "--model", str(tiny_checkpoint)]
    done = subprocess.run([*command, "--out", str(out)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


def test_every_row_has_a_figure_a_bar_and_words(speed):
    rows = speed[0]["rows"]
    assert len(rows) == 10
    for row in rows:
        assert {"what", "at_least", "aim"} <= set(row)
        figure = row["ratio"] if "ratio" in row else row["seconds"]
        assert figure > 0
        assert row["what"] in speed[1]  # the printed table


def test_ratios_are_medians_of_rounds_that_took_turns(speed):
    timed = [row for row in speed[0]["rows"] if "rounds" in row]
    assert len(timed) == 8
    for row in timed:
        assert row["rounds"] == sorted(row["rounds"])
        assert row["rounds"][0] <= row["ratio"] <= row["rounds"][-1]


def test_both_backends_are_measured_in_the_same_run(speed):
    timed = [row for row in speed[0]["rows"] if "rounds" in row]
    assert sorted(row["backend"] for row in timed) == ["onnxruntime"] * 4 + ["torch"] * 4
    assert all(row["what"].startswith(("torch: ", "ONNX Runtime: ")) for row in timed)


def test_it_says_what_was_measured_and_nothing_about_where(speed, root, tiny_checkpoint):
    content = speed[0]
    assert content["command"] == f"python benchmarks/speed.py --model {tiny_checkpoint.name} --quick"
    assert {"commit", "versions", "machine", "model", "seconds"} <= set(content)
    assert {"torch", "onnxruntime", "timm", "grad-cam"} <= set(content["versions"])
    text = json.dumps(content)
    assert str(root) not in text
    assert str(tiny_checkpoint.parent) not in text


def test_hostile_inputs_are_counted(root, tmp_path):
    command = [sys.executable, "benchmarks/fuzz.py", "yaml", "--cases", "12", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "yaml.json").read_text())
    assert found["answered"] + sum(found["refused"].values()) == found["cases"] == 12
    assert (found["untyped exceptions"], found["processes that died"], found["files left"]) == ({}, 0, 0)
    assert str(root) not in json.dumps(found)


def test_explanations_are_measured_against_the_exact_map(root, tiny_checkpoint, tmp_path):
    command = [sys.executable, "benchmarks/explain.py", "--quick", "--threads", "1", "--model", str(tiny_checkpoint)]
    done = subprocess.run([*command, "--out", str(tmp_path / "explain.json")], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads((tmp_path / "explain.json").read_text())["rows"]}
    assert rows["exact"]["ratio"] == 1
    assert {"grad-cam", "eigen-cam", "checks of the exact map", "first map, cold", "six maps, cold"} <= set(rows)
    assert str(tiny_checkpoint.parent) not in (tmp_path / "explain.json").read_text()
