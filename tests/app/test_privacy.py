"""Sessions forget: files and answers go when the page goes; an upload belongs to whoever names it first."""

import os
import secrets
import threading

import pytest

from bcx.app import privacy
from bcx.app.privacy import Sessions
from bcx.errors import RequestError


@pytest.fixture
def sessions(tmp_path):
    return Sessions(tmp_path / "sessions")


def upload(sessions, folder, content: bytes) -> dict:
    """Write a file as the upload route does, and note it."""
    own = folder / "uploads" / secrets.token_hex(8)
    target = own / "0a1b" / "scan.png"
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    sessions.uploads.note(str(target), own)
    return {"path": str(target), "orig_name": "scan.png"}


def test_closing_a_session_deletes_its_folder_and_its_uploads(sessions, tmp_path):
    session = sessions.get("a")
    sent = upload(sessions, tmp_path, b"1")
    taken = session.take(sent)
    assert taken.read_bytes() == b"1"
    assert not os.path.lexists(sent["path"])
    assert list((tmp_path / "uploads").iterdir()) == []
    picture = session.picture("overlay")
    picture.write_bytes(b"x")
    sessions.close("a")
    assert not session.folder.exists()
    assert session.ended.is_set()
    assert not sessions._sessions


def test_a_page_may_name_its_upload_again_and_another_page_may_not(sessions, tmp_path):
    sent = upload(sessions, tmp_path, b"mine")
    first = sessions.get("a")
    assert first.take(sent) == first.take(sent)
    with pytest.raises(RequestError, match="used already"):
        sessions.get("b").take(sent)
    first.drop(first.take(sent))
    with pytest.raises(RequestError, match="used already"):
        first.take(sent)


@pytest.mark.parametrize("kind", ["file", "link", "hard link", "folder", "pipe", "swapped"])
def test_a_path_that_was_not_uploaded_is_neither_read_nor_deleted(sessions, tmp_path, kind):
    canary = tmp_path / "canary"
    canary.write_bytes(b"secret")
    other = tmp_path / "other"
    sent = {"path": str(other)}
    if kind == "file":
        sent = {"path": str(canary)}
    elif kind == "link":
        other.symlink_to(canary)
    elif kind == "hard link":
        os.link(canary, other)
    elif kind == "folder":
        other.mkdir()
    elif kind == "pipe":
        os.mkfifo(other)
    elif kind == "swapped":  # an upload whose place somebody gave to a link
        sent = upload(sessions, tmp_path, b"x")
        os.unlink(sent["path"])
        os.symlink(canary, sent["path"])
    with pytest.raises(RequestError):
        sessions.get("a").take(sent)
    sessions.close("a")
    assert canary.read_bytes() == b"secret"
    assert kind in ("file", "swapped") or os.path.lexists(other)


@pytest.mark.parametrize(
    "sent", [None, 5, "x", [], {}, {"path": None}, {"path": 5}, {"path": ["a"]}, {"path": {}}, {"path": "\0"}]
)
def test_what_is_no_file_is_refused_in_words(sessions, sent):
    with pytest.raises(RequestError):
        sessions.get("a").take(sent)


def test_other_sessions_are_left_alone(sessions):
    kept = sessions.get("a").folder
    sessions.get("b")
    sessions.close("b")
    sessions.close("never opened")
    assert kept.is_dir()
    assert sessions.get("a").folder == kept


def test_silent_sessions_are_forgotten_after_a_while(sessions):
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


def test_pages_that_do_not_exist_push_out_none_that_does(sessions, monkeypatch):
    monkeypatch.setattr(privacy, "MOST_SESSIONS", 5)
    sessions.opened("page")
    page = sessions.get("page")
    with sessions.at_work("working") as working:
        for number in range(50):
            sessions.get(f"made-up-{number}")
        assert not page.ended.is_set()
        assert not working.ended.is_set()
        assert len(sessions._sessions) == 5
    sessions.closed("page")
    assert page.ended.is_set()


def test_when_every_place_is_an_open_page_a_new_one_is_refused(sessions, monkeypatch):
    monkeypatch.setattr(privacy, "MOST_SESSIONS", 2)
    for page in "ab":
        sessions.opened(page)
        sessions.get(page)
    with pytest.raises(RequestError, match="Too many pages"):
        sessions.get("c")
    sessions.closed("a")
    assert sessions.get("c").folder.is_dir()


def test_a_call_without_a_page_ends_with_its_answer(sessions):
    with sessions.at_work(None) as session:
        assert session.folder.is_dir()
    assert not session.folder.exists()
    assert not sessions._sessions


def test_a_call_for_a_page_that_was_closed_holds_nothing_and_ends_as_it_began(sessions):
    with sessions.at_work("page") as session:
        session.picture("scan", ".png")
        sessions.close("page")
        assert (session.running, session.ended.is_set(), session.pictures) == (1, True, {})
    assert session.running == 0


def test_a_page_with_two_connections_ends_with_the_last(sessions):
    sessions.opened("a")
    sessions.opened("a")
    session = sessions.get("a")
    sessions.closed("a")
    assert not session.ended.is_set()
    sessions.closed("a")
    assert session.ended.is_set()


@pytest.mark.parametrize("cookie", ["", "another", "\xe9"])
def test_only_the_cookie_of_its_browser_speaks_for_a_page(sessions, cookie):
    sessions.opened("page", "its own")
    assert sessions.may_speak_for("page", "its own")
    assert not sessions.may_speak_for("page", cookie)


def test_many_threads_get_one_session_each(sessions):
    found = []
    threads = [threading.Thread(target=lambda: found.append(sessions.get("same"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(session) for session in found}) == 1


def test_folders_cannot_be_guessed_or_read_by_others(sessions):
    folder = sessions.get("a").folder
    assert len(folder.name) >= 32
    assert folder.stat().st_mode & 0o077 == 0


def test_old_pictures_are_deleted_while_the_session_lasts(sessions):
    session = sessions.get("a")
    for _ in range(10):
        session.picture("overlay").write_bytes(b"x")
    assert len(list(session.folder.iterdir())) == 2


def test_the_sweep_deletes_old_uploads_and_leaves_sessions(sessions, tmp_path):
    kept = sessions.get("a").picture("overlay")
    kept.write_bytes(b"x")
    sent = upload(sessions, tmp_path, b"nobody came back for this")
    sessions.uploads.sweep(3600)
    assert sent["path"] in sessions.uploads
    sessions.uploads.sweep(-1)
    assert not os.path.exists(sent["path"])
    assert sent["path"] not in sessions.uploads
    assert kept.exists()
