"""The command line, run as a person runs it: arguments in, table, files and exit status out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bcx
from bcx.checkpoints.checkpoint import update_config
from bcx.inference.input_files import base_name
from bcx.trust.rule import HarmRule
from tests.cli.conftest import table

HEADER = (
    "file,label,confidence,decision,p_normal,p_benign,p_malignant,reason,seconds,model,weights_sha256,"
    "lesion_share,lesion_box,flags,notes,frame"
)
CLASSES = ("normal", "benign", "malignant")


def test_a_folder_becomes_a_table_with_a_row_per_scan(run, ward, tiny_checkpoint):
    done = run("predict", "ward", "--model", tiny_checkpoint, "--out", "r.csv")
    assert done.status == 0
    assert done.out == ""
    text = Path("r.csv").read_text("utf-8")
    assert text.splitlines()[0] == HEADER
    rows = table(text)
    scans = sorted(path for path in ward.rglob("*.png") if "_mask" not in path.name)
    assert sorted(row["file"] for row in rows) == [path.relative_to(ward.parent).as_posix() for path in scans]
    assert len(rows) == 12
    for row in rows:
        probabilities = {name: float(row[f"p_{name}"]) for name in CLASSES}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(probabilities, key=lambda name: probabilities[name])
        assert row["model"] == "tiny"
    assert "skipped 12 masks and 1 file that is no picture" in done.err
    assert [path.name for path in Path().glob("*r.csv*")] == ["r.csv"]


def test_without_out_the_table_goes_to_standard_output(run, ward, tiny_checkpoint):
    done = run("predict", "ward/benign", "--model", tiny_checkpoint)
    assert done.status == 0
    assert done.out.splitlines()[0] == HEADER
    assert len(table(done.out)) == 4
    assert "never for diagnosis" in done.err


def test_an_address_without_the_engine_that_needs_it_is_refused(run, ward, tiny_checkpoint):
    done = run("predict", "ward/benign", "--model", tiny_checkpoint, "--address", "auto")
    assert done.status == 2
    assert "--engine ray" in done.err


@pytest.mark.parametrize("model", ["tiny_checkpoint", "tiny_lesion_checkpoint"])
def test_the_command_line_says_what_python_says(run, ward, model, request):
    folder = request.getfixturevalue(model)
    path = ward / "malignant" / "malignant (1).png"
    said = bcx.load(folder).predict(path)
    as_table = table(run("predict", path, "--model", folder).out)[0]
    as_json = json.loads(run("predict", path, "--model", folder, "--json").out)
    for name, probability in said.probabilities.items():
        assert float(as_table[f"p_{name}"]) == pytest.approx(probability, abs=1e-6)
        assert as_json["probabilities"][name] == pytest.approx(probability, abs=1e-6)
    assert as_table["label"] == as_json["label"] == said.label
    assert as_table["decision"] == as_json["decision"] == said.decision
    assert as_table["weights_sha256"] == said.weights_sha256
    assert set(said.to_dict()) <= set(as_json)
    for key in ("lesion_box", "second_look"):
        assert as_json[key] == said.to_dict()[key]
    assert as_table["lesion_box"] == " ".join(map(str, said.lesion_box or ()))
    assert (as_table["lesion_share"] == "") == (said.lesion is None)


def test_two_views_answer_differently_from_one(run, ward, tiny_checkpoint):
    one = table(run("predict", "ward/benign", "--model", tiny_checkpoint).out)
    two = table(run("predict", "ward/benign", "--model", tiny_checkpoint, "--views", "2").out)
    assert [row["file"] for row in one] == [row["file"] for row in two]
    assert [row["p_benign"] for row in one] != [row["p_benign"] for row in two]


def test_prevalence_and_operating_point_change_probabilities_and_answers(run, ward, tiny_checkpoint, tmp_path):
    stored = shutil.copytree(tiny_checkpoint, tmp_path / "ruled")
    rule = HarmRule(0.9, 0.05, screening_above=0.0, rule_in_above=1.0, prevalence=(0.2, 0.5, 0.3))
    update_config(stored, decisions={"rule": rule.to_dict()})
    ask = ("predict", "ward/benign", "--model", stored, "--json")
    plain, rare = (
        [json.loads(line) for line in run(*ask, *more).out.splitlines()]
        for more in ((), ("--prevalence", "malignant=0.01, normal=.5"))
    )
    for before, now in zip(plain, rare, strict=True):
        odds = [each["probabilities"]["malignant"] / each["probabilities"]["normal"] for each in (before, now)]
        assert odds[1] / (0.01 / 0.5) == pytest.approx(odds[0] / (0.3 / 0.2), rel=1e-3)
    assert "refer" in {row["decision"] for row in plain}
    screened = table(run("predict", "ward/benign", "--model", stored, "--operating-point", "screening").out)
    assert {row["decision"] for row in screened} == {"malignant"}


def test_a_bad_file_is_a_row_with_its_reason_and_the_rest_go_on(run, ward, tiny_checkpoint):
    good = (ward / "normal" / "normal (1).png").read_bytes()
    (ward / "normal" / "cut.png").write_bytes(good[: len(good) // 2])
    (ward / "normal" / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    done = run("predict", "ward/normal", "--model", tiny_checkpoint)
    assert done.status == 1
    rows = {row["file"]: row for row in table(done.out)}
    assert len(rows) == 6
    for name in ("cut.png", "drawing.svg"):
        row = rows.pop(f"ward/normal/{name}")
        assert row["reason"]
        assert {row[column] for column in HEADER.split(",") if column not in ("file", "reason")} == {""}
    assert all(row["label"] in CLASSES for row in rows.values())
    assert "2 could not be read" in done.err


def test_what_was_left_out_can_be_named(run, ward, tiny_checkpoint):
    arguments = ("predict", "ward", "--model", tiny_checkpoint, "--out", "r.csv")
    assert "notes.txt" not in run(*arguments).err
    said = run(*arguments, "--verbose").err.splitlines()
    assert "left out: ward/notes.txt: no picture" in said
    assert sum(line.endswith("_mask.png: a mask beside its scan") for line in said) == 12


def test_a_text_named_outright_is_a_row(run, ward, tiny_checkpoint):
    done = run("predict", "ward/notes.txt", "--model", tiny_checkpoint, "--json")
    assert done.status == 1
    assert json.loads(done.out)["file"] == "ward/notes.txt"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no Unicode")
def test_a_name_that_is_no_unicode_does_not_stop_the_table(run, ward, tiny_checkpoint):
    (ward / "benign" / "benign (1)_mask.png").unlink()
    os.rename(os.fsencode(ward / "benign" / "benign (1).png"), os.fsencode(ward / "benign") + b"/\xff.png")
    assert len(table(run("predict", "ward/benign", "--model", tiny_checkpoint).out)) == 4
    assert len(run("predict", "ward/benign", "--model", tiny_checkpoint, "--json").out.splitlines()) == 4


def test_overlays_are_pictures_of_the_scans_size_in_the_folders_layout(run, ward, tiny_checkpoint):
    done = run("predict", "ward", "--model", tiny_checkpoint, "--overlays", "ward/seen", "--out", "r.csv")
    assert done.status == 0
    made = sorted(path.relative_to("ward/seen").as_posix() for path in Path("ward/seen").rglob("*.*"))
    scans = [path.relative_to(ward) for path in ward.rglob("*.png") if "_mask" not in path.name]
    scans = [path for path in scans if path.parts[0] in CLASSES]
    assert made == sorted(path.with_name(f"{path.stem}_overlay.png").as_posix() for path in scans)
    with Image.open(ward / scans[0]) as scan, Image.open(Path("ward/seen") / made[0]) as overlay:
        assert overlay.size == scan.size
        assert overlay.mode == "RGB"
    again = run("predict", "ward", "--model", tiny_checkpoint, "--overlays", "ward/seen", "--out", "again.csv")
    assert again.status == 0  # the overlays of the first run are not read as scans
    assert len(table(Path("again.csv").read_text("utf-8"))) == len(scans)


def test_a_model_that_sees_lesions_writes_them_beside_the_overlays(run, ward, tiny_lesion_checkpoint):
    done = run("predict", "ward/benign", "--model", tiny_lesion_checkpoint, "--overlays", "seen", "--out", "r.csv")
    assert done.status == 0
    rows = table(Path("r.csv").read_text("utf-8"))
    assert len(list(Path("seen").rglob("*_lesion.png"))) == len(list(Path("seen").rglob("*_overlay.png"))) == len(rows)
    assert all(0 <= float(row["lesion_share"]) <= 1 for row in rows)
    for row in rows:
        assert (row["lesion_box"] == "") == (float(row["lesion_share"]) == 0)


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "a.jpg", "a.bmp"],
        ["a.png", "A.png"],
        ["x/a.png", "x/a.png", "x/a.png"],
        ["é" * 120 + ".png", "é" * 120 + ".jpg"],
    ],
)
def test_no_overlay_is_written_over_another(names):
    taken: set[str] = set()
    made = [f"{base_name(Path(name), taken)}_overlay.png" for name in names]
    assert len({name.casefold() for name in made}) == len(names)
    assert all(len(os.fsencode(f".{name}.partial")) <= 255 for name in made)


def test_an_existing_table_is_replaced_only_at_the_end(run, ward, tiny_checkpoint, monkeypatch):
    Path("r.csv").write_text("the old table")

    def break_down(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("bcx.cli.predict._answers", break_down)
    assert run("predict", "ward", "--model", tiny_checkpoint, "--out", "r.csv").status != 0
    assert Path("r.csv").read_text() == "the old table"
    assert [path.name for path in Path().glob("*r.csv*")] == ["r.csv"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict"],
        ["predict", "absent.png"],
        ["predict", "ward", "--views", "3"],
        ["predict", "ward", "--prevalence", "malignant"],
        ["predict", "ward", "--prevalence", "malign=0.1"],
        ["predict", "ward", "--operating-point", "safe"],
        ["predict", "ward", "--model", "no-such-model"],
        ["predict", "ward", "--out", "ward"],
        ["predict", "ward", "--overlays", "ward"],
        ["predict", "ward/benign/benign (1).png", "--out", "ward/benign/benign (1).png"],
        ["no-such-command"],
        ["data", "check", "absent"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_with_one_message_and_nothing_written(run, ward, arguments):
    before = {path: path.read_bytes() for path in ward.rglob("*.*")}
    done = run(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.err.strip()
    assert "Traceback" not in done.err
    assert {path: path.read_bytes() for path in ward.rglob("*.*")} == before


def test_info_names_versions_models_and_threads(run, tiny_checkpoint, monkeypatch):
    import torch

    monkeypatch.setenv("BCX_CHECKPOINTS", os.fspath(tiny_checkpoint.parent))
    done = run("info")
    assert done.status == 0
    for text in (bcx.__version__, torch.__version__.split("+")[0], "tiny", "threads"):
        assert text in done.out


def test_help_and_version_answer_without_loading_torch():
    code = (
        "import sys; from bcx.cli import main as cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    for option in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=True)
        assert "bcx" in done.stdout
        assert not {"torch", "gradio", "timm", "cv2", "pandas", "numpy"} & set(done.stderr.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "inside", "said"),
    [
        (["data", "check", "ward"], "bcx.data.check.check_folder", "bcx: stopped."),
        (["audit", "ward"], "bcx.audit.run.audit", "bcx: stopped."),
        (
            ["crossval", "--out", "o"],
            "bcx.cli.train.read_recipe",
            "bcx: stopped.\nThe same command goes on where it was.",
        ),
        (["synth", "sample", "g", "--out", "o"], "bcx.studies.synthesis.generator.load_generator", "bcx: stopped."),
    ],
)
def test_every_command_that_is_stopped_ends_in_words(run, ward, monkeypatch, arguments, inside, said):
    def stop(number):
        os.kill(os.getpid(), number)
        time.sleep(5)

    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        monkeypatch.setattr(inside, lambda *_, number=number, **__: stop(number))
        done = run(*arguments)
        assert done.status == status
        assert said in done.err
        assert "Traceback" not in done.err
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_standard_output_without_room_ends_in_words(ward, tiny_checkpoint):
    command = [sys.executable, "-m", "bcx", "predict", "ward/benign", "--model", os.fspath(tiny_checkpoint)]
    environment = os.environ | {"PYTHONPATH": os.fspath(Path(bcx.__file__).parents[1])}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_error(ward, tiny_checkpoint):
    command = [sys.executable, "-m", "bcx", "predict", "ward", "--model", os.fspath(tiny_checkpoint), "--json"]
    environment = os.environ | {"PYTHONPATH": os.fspath(Path(bcx.__file__).parents[1])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    process.stdout.close()
    errors = process.stderr.read()
    process.wait()
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


@pytest.mark.slow
def test_memory_is_flat_however_long_the_list(tmp_path, tiny_checkpoint):
    """The same program over 40 and over 1,000 scans; the second may need at most a tenth more at its peak."""
    resource = pytest.importorskip("resource")
    assert resource
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    for number in range(1, 1000):
        os.link(tmp_path / "0.png", tmp_path / f"{number}.png")
    code = (
        "import resource, sys; from bcx.cli import main as cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for pattern in ("[1-4][0-9].png", "*.png"):
        arguments = ["predict", tmp_path / pattern, "--model", tiny_checkpoint, "--out", tmp_path / "r.csv"]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert len(table((tmp_path / "r.csv").read_text())) == 1000
    assert peaks[1] <= 1.1 * peaks[0]


def test_the_former_name_of_the_input_check_still_works(run):
    done = run("gate", "--help")
    assert done.status == 0
    assert "deprecated" in (done.out + done.err).lower()
