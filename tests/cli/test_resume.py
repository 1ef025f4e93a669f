"""`bcx predict` that is stopped, killed or out of room: what was answered is kept, and the same command goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bcx
from bcx.inference.classifier import Classifier
from tests.cli.conftest import table

COUNT = 10


@pytest.fixture
def ward(tmp_path, busi_folder, monkeypatch) -> Path:
    """Ten simulated scans, one file that is none; the current folder is the one above."""
    monkeypatch.chdir(tmp_path)
    scans = sorted(path for path in busi_folder.rglob("*.png") if "_mask" not in path.name)
    (tmp_path / "ward").mkdir()
    for number in range(COUNT):
        shutil.copy(scans[number], tmp_path / "ward" / f"{number}.png")
    (tmp_path / "ward" / "x.png").write_text("broken on its way")
    return tmp_path / "ward"


def answers(path: str | Path) -> list[dict]:
    """Rows of a table, or lines of JSON, without what the clock says."""
    rows = table(Path(path).read_text("utf-8"))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def journal(out: str = "r.csv") -> Path:
    return Path(f".{out}.unfinished")


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Names of the files that the network was asked about; `stop_after` ends the run as Ctrl-C does."""

    class Asked(list):
        stop_after: int | None = None

    seen = Asked()
    stream = Classifier.stream

    def watched(self, sources, *more):
        for answer in stream(self, sources, *more):
            if seen.stop_after is not None and len(seen) == seen.stop_after:
                raise KeyboardInterrupt
            seen.append(answer.name)
            yield answer

    monkeypatch.setattr(Classifier, "stream", watched)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("form", [[], ["--json"], ["--overlays", "seen"]], ids=["csv", "json", "overlays"])
def test_stopped_it_keeps_what_was_answered_and_goes_on(run, ward, tiny_checkpoint, asked, form):
    command = ["predict", "ward", "--model", tiny_checkpoint, "--out"]
    whole = run(*command, "whole.csv", *form)
    assert whole.status == 1  # the file that is none
    del asked[:]
    asked.stop_after = 4
    done = run(*command, "r.csv", *form)
    assert done.status == 130
    assert "bcx: stopped." in done.err
    assert "What was done is kept (4 files): the same command goes on from there." in done.err
    assert "Traceback" not in done.err
    assert not Path("r.csv").exists()
    assert journal().is_file()
    asked.stop_after = None
    again = run(*command, "r.csv", *form)
    assert again.status == 1
    assert "4 of them answered before" in again.err
    assert asked == [*(f"{n}.png" for n in range(COUNT)), "x.png"]  # each once
    assert answers("r.csv") == answers("whole.csv")
    assert not journal().exists()
    if form == ["--overlays", "seen"]:
        assert len(list(Path("seen").rglob("*_overlay.png"))) == COUNT


@pytest.mark.slow
def test_it_begins_anew_where_that_was_asked_or_settings_differ(run, ward, tiny_checkpoint, asked):
    command = ["predict", "ward", "--model", tiny_checkpoint, "--out", "r.csv"]
    for more, said in ((["--no-resume"], ""), (["--views", "2"], "an unfinished run differs in views")):
        asked.stop_after = len(asked) + 4
        assert run(*command).status == 130
        asked.stop_after = None
        del asked[:]
        done = run(*command, *more)
        assert len(asked) == COUNT + 1
        assert said in done.err


def test_a_scan_that_changed_or_is_new_is_answered_and_one_that_went_is_no_row(run, ward, tiny_checkpoint, asked):
    command = ["predict", "ward", "--model", tiny_checkpoint, "--out", "r.csv"]
    asked.stop_after = 6
    assert run(*command).status == 130
    (ward / "1.png").write_bytes((ward / "9.png").read_bytes())
    (ward / "2.png").unlink()
    shutil.copy(ward / "3.png", ward / "00.png")
    asked.stop_after = None
    del asked[:]
    run(*command)
    assert asked == ["00.png", "1.png", *(f"{n}.png" for n in range(6, COUNT)), "x.png"]
    rows = {row["file"]: row for row in answers("r.csv")}
    assert list(rows) == sorted(f"ward/{path.name}" for path in ward.iterdir())
    assert rows["ward/1.png"] == rows["ward/9.png"] | {"file": "ward/1.png"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_said_in_words(run, ward, tiny_checkpoint):
    Path("closed").mkdir(mode=0o500)
    done = run("predict", "ward", "--model", tiny_checkpoint, "--out", "closed/r.csv")
    assert done.status == 1
    assert "bcx: 'closed/r.csv' cannot be written (Permission denied)." in done.err


def test_a_file_where_a_folder_should_be_is_said_in_words(run, ward, tiny_checkpoint):
    Path("file").write_text("")
    done = run("predict", "ward", "--model", tiny_checkpoint, "--out", "file/r.csv")
    assert (done.status, "Traceback" in done.err) == (1, False)
    assert "bcx: 'file/r.csv' cannot be written" in done.err


def test_a_table_that_cannot_be_replaced_is_written_by_the_next_run(run, ward, tiny_checkpoint, asked, monkeypatch):
    """As on Windows while a spreadsheet has it open."""
    command = ["predict", "ward", "--model", tiny_checkpoint, "--out", "r.csv"]
    replace = Path.replace

    def locked(self, target):
        if Path(target).name == "r.csv":
            raise PermissionError(13, "The file is open in another program", os.fspath(target))
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", locked)
        done = run(*command)
    assert done.status == 1
    assert "close the file where another program has it open" in done.err
    assert f"What was done is kept ({COUNT + 1} files)" in done.err
    del asked[:]
    run(*command)
    assert asked == ["x.png"]  # what failed is tried again
    assert len(answers("r.csv")) == COUNT + 1


def process(ward: Path, checkpoint: Path, *more: str, **options) -> subprocess.Popen:
    words = ["predict", "ward", "--model", os.fspath(checkpoint), "--out", "r.csv", *more]
    environment = os.environ | {"PYTHONPATH": os.fspath(Path(bcx.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "bcx", *words],
        cwd=ward.parent,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(answered: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if journal().is_file() and journal().read_bytes().count(b"\n") > answered:
            return
        time.sleep(0.002)
    raise AssertionError("nothing was answered")


@pytest.fixture
def large_ward(ward) -> Path:
    for number in range(300):
        os.link(ward / f"{number % COUNT}.png", ward / f"link {number}.png")
    return ward


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("more", "moments"), [([], (0, 150)), (["--json"], (37,))], ids=["csv", "json"])
def test_killed_at_any_moment_it_goes_on(run, large_ward, tiny_checkpoint, more, moments):
    command = ["predict", "ward", "--model", tiny_checkpoint, "--out", "r.csv", *more]
    run(*command)
    whole = answers("r.csv")
    Path("r.csv").unlink()
    for answered in moments:
        running = process(large_ward, tiny_checkpoint, *more)
        wait_for(answered)
        running.kill()
        running.communicate()
        assert running.returncode == -signal.SIGKILL
        assert not Path("r.csv").exists()
    last = run(*command)
    assert last.status == 1
    assert "of them answered before" in last.err
    assert answers("r.csv") == whole
    assert not list(Path().glob(".r.csv*"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_words(large_ward, tiny_checkpoint, number, status):
    running = process(large_ward, tiny_checkpoint)
    wait_for(10)
    running.send_signal(number)
    _, said = running.communicate()
    assert running.returncode == status
    assert "Traceback" not in said
    assert "bcx: stopped." in said
    assert "the same command goes on from there" in said


@pytest.mark.slow
def test_without_room_it_ends_in_words_and_goes_on(run, large_ward, tiny_checkpoint):
    resource = pytest.importorskip("resource")

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    full = process(large_ward, tiny_checkpoint, preexec_fn=small_disk)
    _, said = full.communicate()
    assert full.returncode == 1
    assert "'r.csv' cannot be written (File too large). Expected: room on the disk." in said
    assert "What was done is kept" in said
    assert "Traceback" not in said
    last = run("predict", "ward", "--model", tiny_checkpoint, "--out", "r.csv")
    assert "of them answered before" in last.err
    assert len(answers("r.csv")) == 300 + COUNT + 1


def test_scans_in_an_archive_are_answered_as_in_a_folder_and_gone_on_with(run, ward, tiny_checkpoint, asked):
    import zipfile

    with zipfile.ZipFile("scans.zip", "w") as archive:
        for path in sorted(ward.iterdir()):
            archive.write(path, f"ward/{path.name}")
    options = ["--model", tiny_checkpoint, "--overlays", "seen", "--out"]
    run("predict", "ward", *options, "folder.csv")
    asked.stop_after = len(asked) + 6
    assert run("predict", "scans.zip", *options, "r.csv").status == 130
    asked.stop_after = None
    assert "6 of them answered before" in run("predict", "scans.zip", *options, "r.csv").err
    expected = answers("folder.csv")
    for row in expected:
        row["file"] = f"scans.zip/{row['file']}"
    assert answers("r.csv") == expected
    for number in range(COUNT):
        name = f"{number}_overlay.png"
        assert Path("seen/scans.zip/ward", name).read_bytes() == Path("seen", name).read_bytes()
