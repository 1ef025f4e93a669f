"""Sessions forget: files and answers go when the page goes, and only its own."""

from __future__ import annotations

import time

import pytest

from bcx.app import privacy
from bcx.app.privacy import Sessions


@pytest.fixture
def sessions(tmp_path):
    return Sessions(tmp_path / "sessions")


def upload(folder, content: bytes) -> dict:
    """Put a file where Gradio puts it: in a folder named after the content, replacing what is there."""
    target = folder / "0a1b" / "scan.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"incoming-{time.monotonic_ns()}"
    fresh.write_bytes(content)
    fresh.replace(target)
    return {"path": str(target), "orig_name": "scan.png"}


def test_closing_a_session_deletes_its_folder_and_its_uploads(sessions, tmp_path):
    session = sessions.get("a")
    one = session.register(upload(tmp_path, b"1"))
    copy = session.adopt(upload(tmp_path, b"1"))
    picture = session.picture("overlay")
    picture.write_bytes(b"x")
    assert copy.read_bytes() == b"1"
    sessions.close("a")
    assert not one.exists()
    assert not session.folder.exists()
    assert session.ended.is_set()
    assert len(sessions) == 0


def test_the_same_file_sent_by_another_page_survives_the_first_page(sessions, tmp_path):
    first = sessions.get("a").register(upload(tmp_path, b"same"))
    sessions.get("b").register(upload(tmp_path, b"same"))
    sessions.close("a")
    assert first.exists()
    sessions.close("b")
    assert not first.exists()


def test_an_adopted_file_outlives_the_sweep_of_uploads(sessions, tmp_path):
    sent = upload(tmp_path, b"kept")
    copy = sessions.get("a").adopt(sent)
    (tmp_path / "0a1b" / "scan.png").unlink()
    assert copy.read_bytes() == b"kept"


def test_other_sessions_are_left_alone(sessions):
    kept = sessions.get("a").folder
    sessions.get("b")
    sessions.close("b")
    sessions.close("never opened")
    assert kept.is_dir()
    assert sessions.get("a").folder == kept


def test_silent_sessions_are_forgotten_after_a_while(sessions, monkeypatch):
    old, young = sessions.get("old"), sessions.get("young")
    old.last_used -= privacy.IDLE_SECONDS + 1
    sessions.get("young")
    assert not old.folder.exists()
    assert old.ended.is_set()
    assert young.folder.is_dir()


def test_no_more_than_so_many_sessions_are_kept(sessions, monkeypatch):
    monkeypatch.setattr(privacy, "MOST_SESSIONS", 3)
    folders = [sessions.get(str(number)).folder for number in range(6)]
    assert [folder.exists() for folder in folders] == [False, False, False, True, True, True]


def test_folders_cannot_be_guessed_or_read_by_others(sessions):
    folder = sessions.get("a").folder
    assert len(folder.name) >= 20
    assert folder.stat().st_mode & 0o077 == 0


def test_old_pictures_are_deleted_while_the_session_lasts(sessions):
    session = sessions.get("a")
    for _ in range(10):
        session.picture("overlay").write_bytes(b"x")
    assert len(list(session.folder.iterdir())) == 2


def test_the_sweep_deletes_old_uploads_and_leaves_sessions(sessions, tmp_path):
    kept = sessions.get("a").picture("overlay")
    kept.write_bytes(b"x")
    sent = upload(tmp_path, b"nobody came back for this")
    privacy.sweep_uploads(tmp_path, 3600)
    assert (tmp_path / "0a1b" / "scan.png").read_bytes() == b"nobody came back for this"
    privacy.sweep_uploads(tmp_path, -1)
    assert not (tmp_path / "0a1b").exists(), sent
    assert kept.exists()
