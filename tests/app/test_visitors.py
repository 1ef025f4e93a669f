"""Many visitors at once, by the benchmark itself in small; memory is not judged here, it needs more rounds."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_every_visitor_gets_the_answers_of_the_engine_and_leaves_nothing(root, tiny_checkpoint, tmp_path):
    out = tmp_path / "visitors.json"
    command = [sys.executable, "benchmarks/visitors.py", "--quick", "--model", str(tiny_checkpoint), "--out", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["all_right"]
    assert [each["answers"] for each in found["rounds"]] == [12, 12]
    assert all(each["most_files"] > 0 for each in found["rounds"])
    assert found["page_closed_during_its_batch"]["within_limit"]
    made_up = found["made_up_sessions"]
    assert made_up["answered_in_words"] == made_up["asked"] == 20
    assert made_up["right"] == made_up["batch"] == 24
    assert str(tmp_path) not in out.read_text()
