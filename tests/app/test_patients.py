"""One answer per patient on the page: the table that the command writes, rows that are picked, and hostile requests."""

import csv
import shutil

import httpx
import numpy as np
import pytest

from bcx.app import rows
from bcx.app.markup import html
from bcx.app.privacy import Sessions
from bcx.cli import main as cli
from bcx.errors import RequestError
from bcx.inference.patient import FOLDER, STUDY, patient_lines
from tests.app.test_batch import run, sent
from tests.app.test_hostile import ask, calls_of
from tests.dicoms import ultrasound


@pytest.fixture
def session(tmp_path):
    return Sessions(tmp_path / "sessions").get("page")


@pytest.fixture
def clinic(tmp_path, scans, monkeypatch):
    """Folders of two patients, one with a broken file, and a third of whom nothing can be read."""
    monkeypatch.chdir(tmp_path)
    for folder, names in {"ann": scans, "bea": ["grey.png", "photo.jpg"], "cleo": ["broken.png"]}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            shutil.copy(scans[name], tmp_path / folder / name)
    return [path for folder in ("ann", "bea", "cleo") for path in sorted((tmp_path / folder).iterdir())]


@pytest.fixture
def done(session, clinic, tiny):
    chosen = [sent(path, session, f"{path.parent.name}/{path.name}") for path in clinic]
    made = run(session, rows.take_in(session, chosen, folder=False), tiny)
    assert len(made.rows) == len(clinic)
    return made


def test_the_table_of_folders_is_the_one_that_the_command_writes(done, tiny, tiny_checkpoint):
    done.by = FOLDER
    ours = list(csv.DictReader(patient_lines(rows.combined(done, tiny), tiny.classes)))
    with pytest.raises(SystemExit):
        cli.main(["predict", "ann", "bea", "cleo", "-m", str(tiny_checkpoint), "-o", "r.csv", "--patients", "folder"])
    with open("r.patients.csv", encoding="utf-8", newline="") as file:
        theirs = list(csv.DictReader(file))
    assert [row["patient"] for row in theirs] == ["ann", "bea", "cleo"]
    assert [{**row, "files": set(row["files"].split("; "))} for row in ours] == [
        {**row, "files": set(row["files"].split("; "))} for row in theirs
    ]


def test_a_study_is_a_patient_and_files_of_none_are_left_out(session, scans, tiny, tmp_path):
    pixels = np.arange(120 * 140, dtype=np.uint32).reshape(120, 140).astype(np.uint8)
    for name, study in (("a.dcm", "1.2.3"), ("b.dcm", "1.2.3"), ("c.dcm", "1.2.4")):
        (tmp_path / name).write_bytes(ultrasound(pixels, StudyInstanceUID=study))
    chosen = [sent(path, session) for path in (*sorted(tmp_path.glob("*.dcm")), scans["grey.png"])]
    done = run(session, rows.take_in(session, chosen, folder=False), tiny)
    done.by = STUDY
    found = rows.combined(done, tiny)
    assert [(row["patient"], row["files"]) for row in found] == [("1.2.3", "a.dcm; b.dcm"), ("1.2.4", "c.dcm")]


def test_picked_rows_are_one_patient_and_the_boxes_are_empty_again(done, tiny):
    done.by, done.picked, last = rows.PICKED, {1, 2}, len(done.rows) - 2
    assert rows.rows_html(done, tiny.task).count(" checked") == 2
    rows.pick_group(done)
    done.picked = {1, last}
    rows.pick_group(done)
    assert rows.rows_html(done, tiny.task).count(" checked") == 0
    first, second = rows.combined(done, tiny)
    expected = tiny.combine("x", [done.rows[place].slim for place in (1, last)])
    assert (first["patient"], second["patient"]) == ("selection 1", "selection 2")
    assert second["decision"] == expected.decision
    for name, p in expected.probabilities.items():
        assert second[f"p_{name}"] == pytest.approx(p, abs=5e-6)
    done.patients = [first, {**second, "reason": "<i>x</i>", "patient": "<u>"}]
    shown = html.patients(done, rows.SHOWN, tiny.task)
    assert "<i>" not in shown
    assert "<u>" not in shown
    assert shown.count("<li") == 2


def test_one_row_is_no_group(done):
    done.picked = {1}
    with pytest.raises(RequestError, match="two rows or more"):
        rows.pick_group(done)
    done.picked, done.groups = {1, 2}, [[0, 1]] * rows.MOST_GROUPS
    with pytest.raises(RequestError, match="fewer than"):
        rows.pick_group(done)


@pytest.mark.parametrize(
    ("event", "data", "sent_event", "said"),
    [
        ("input", "study.csv", None, "whose a scan is"),
        ("input", ["folder"], None, "whose a scan is"),
        ("edit", None, {"row": 10**6, "picked": True}, "The row"),
        ("edit", None, {"row": "-1", "picked": True}, "The row"),
        ("edit", None, {"row": 0, "picked": "yes"}, "Whether it is picked"),
    ],
)
def test_written_requests_are_checked(server, scans, event, data, sent_event, said):
    client, api, page = httpx.Client(timeout=60), f"{server.url}gradio_api", f"patients-{event}"
    config = client.get(f"{server.url}config").json()
    parts = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    calls = {tuple(target): call for call, _ in calls_of(config) for target in call["targets"]}

    with client.stream("GET", f"{api}/heartbeat/{page}"):
        path = client.post(f"{api}/upload", files={"files": ("a.png", scans["grey.png"].read_bytes())}).json()[0]
        model = next(part["props"]["value"] for part in config["components"] if part["props"].get("label") == "Model")
        found = calls[parts["batch-upload"], "upload"]
        files = [{"path": path, "orig_name": "a.png"}]
        body = {"data": [files, "name", "", "", model], "fn_index": found["id"], "session_hash": page}
        assert ask(client, api, body) == ""
        found = calls[parts["batch-by" if event == "input" else "batch-rows"], event]
        values = [data, model] if event == "input" else [model]
        body = {"data": values, "fn_index": found["id"], "session_hash": page, "event_data": sent_event}
        assert said in ask(client, api, body)
