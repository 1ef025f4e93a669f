"""Answers that outlive the run that made them."""

import errno
import os
from pathlib import Path

import pytest

from bcx.errors import ConfigError, OutputError
from bcx.inference.journal import Journal, stamp

ANSWERS = {
    f"scan {number}.png": {"label": "benign", "p": number / 7, "text": "ü\udcff\n" * number} for number in range(5)
}


@pytest.fixture
def out(tmp_path) -> Path:
    with Journal(tmp_path / "r.csv", {"model": "a", "views": 1}) as journal:
        for number, (key, answer) in enumerate(ANSWERS.items()):
            journal.add(key, [number, 10**18 + number], answer)
    return tmp_path / "r.csv"


def kept(out: Path, **settings) -> list[str]:
    with Journal(out, {"model": "a", "views": 1} | settings) as journal:
        held = [key for number, key in enumerate(ANSWERS) if journal.holds(key, [number, 10**18 + number])]
        assert len(journal) == len(held)
        assert all(journal.read(key) == ANSWERS[key] for key in held)
    return held


def test_what_was_added_is_held_and_read_as_it_was(out):
    assert kept(out) == list(ANSWERS)
    with Journal(out, {"model": "a", "views": 1}) as journal:
        assert not journal.holds("1.png", [1, 7])
        assert not journal.holds("another.png", [1, 7])
        assert not journal.holds("1.png", None)


def test_cut_at_any_byte_the_whole_lines_are_kept_and_more_can_be_added(out):
    whole = (out.parent / ".r.csv.unfinished").read_bytes()
    for end in range(0, len(whole), 3):
        (out.parent / ".r.csv.unfinished").write_bytes(whole[:end])
        held = kept(out)
        assert held == list(ANSWERS)[: max(0, whole[:end].count(b"\n") - 1)]
        with Journal(out, {"model": "a", "views": 1}) as journal:
            journal.add("new", [1], {"label": "x"})
        with Journal(out, {"model": "a", "views": 1}) as journal:
            assert journal.read("new") == {"label": "x"}
            assert len(journal) == len(held) + 1


@pytest.mark.parametrize("junk", [b"", b"\n", b"null\n", b"[]\n", b'{"settings": 3}\n', b"\xff\n", b'{"key": "x"}\n'])
def test_what_is_no_journal_is_begun_anew(out, junk):
    (out.parent / ".r.csv.unfinished").write_bytes(junk * 3)
    assert kept(out) == []


def test_settings_that_differ_are_named(out):
    with Journal(out, {"model": "b", "tta": 2}) as journal:
        assert journal.started_over == ["model", "tta", "views"]
        assert len(journal) == 0


def test_the_file_goes_when_the_result_is_written_or_nothing_was_added(out, tmp_path):
    with Journal(out, {"model": "a", "views": 1}) as journal:
        journal.finish()
    with Journal(tmp_path / "other.csv", {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_error_carries_what_to_do(out):
    with pytest.raises(ValueError, match="odd") as caught, Journal(out, {"model": "a", "views": 1}):
        raise ValueError("odd")
    assert caught.value.__notes__ == ["What was done is kept (5 files): the same command goes on from there."]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_without_room_half_a_line_is_taken_back(out, number):
    class Full:
        """A disk on which the file has room for ten more bytes."""

        def __init__(self, file):
            self.file = file
            self.room = 10

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if not self.room:
                raise OSError(number, os.strerror(number))
            written, self.room = self.file.write(data[: self.room]), 0
            return written

    with Journal(out, {"model": "a", "views": 1}) as journal:
        journal._file = Full(journal._file)
        with pytest.raises(OutputError, match=r"'.*r\.csv' cannot be written .* Expected: room on the disk"):
            journal.add("new", [1], {})
        assert "new" not in journal._entries
    assert kept(out) == list(ANSWERS)


def test_one_process_at_a_time(out):
    pytest.importorskip("fcntl")
    with Journal(out, {"model": "a", "views": 1}), pytest.raises(ConfigError, match="Another process is writing"):
        Journal(out, {"model": "a", "views": 1})
    assert kept(out) == list(ANSWERS)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system cannot refuse links")
def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".r.csv.unfinished").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError):
        Journal(tmp_path / "r.csv", {})
    assert (tmp_path / "precious").read_text() == "precious"


def test_the_stamp_of_what_is_not_there_is_none(tmp_path):
    assert stamp(tmp_path / "none") is None
    (tmp_path / "some").write_text("x")
    assert stamp(tmp_path / "some")[0] == 1
