"""ZIP archives of scans, ordinary and hostile."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path, PurePath

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from bcx.errors import BcxError, ConfigError, DamagedScan, ScanError, ScanTooLarge
from bcx.imaging.names import ARCHIVE, LINK, MASK, NO_PICTURE
from bcx.imaging.scan import MAX_BYTES, Scan
from bcx.inference import archives
from bcx.inference.archives import open_archive
from bcx.inference.input_files import find


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(value, value + 64 * 64, dtype=np.uint8).reshape(64, 64)).save(out, "PNG")
    return out.getvalue()


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name  # as it is, also with backslashes
            info.compress_type = method
            archive.writestr(info, data)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_archive_is_searched_like_a_folder(here):
    members = {
        "ward/a.png": png(1),
        "ward/a_mask.png": png(2),
        "ward/notes.txt": b"text",
        "ward/broken.jpg": b"",
        "ward/really.txt": png(3),
        "__MACOSX/ward/._a.png": b"\x00\x05\x16\x07" + bytes(90),
        "ward/.DS_Store": b"\x00\x00\x00\x01Bud1",
        "ward/inner.zip": pack(here / "inner.zip", {"b.png": png(4)}).read_bytes(),
    }
    (here / "inner.zip").unlink()
    pack(here / "scans.zip", members)
    for argument in ("scans.zip", "*.zip", "./scans.zip"):
        listing = find([argument])
        kept = ["scans.zip/ward/a.png", "scans.zip/ward/broken.jpg", "scans.zip/ward/really.txt"]
        assert [found.file for found in listing.pictures] == kept
        assert dict(listing.left_out) == {
            "scans.zip/ward/a_mask.png": MASK,
            "scans.zip/ward/notes.txt": NO_PICTURE,
            "scans.zip/__MACOSX/ward/._a.png": NO_PICTURE,
            "scans.zip/ward/.DS_Store": NO_PICTURE,
            "scans.zip/ward/inner.zip": ARCHIVE,
        }
        assert listing.pictures[0].source.read() == members["ward/a.png"]
        assert listing.pictures[0].inside == Path("scans.zip/ward/a.png")
    assert sorted(os.listdir(here)) == ["scans.zip"]
    again = pickle.loads(pickle.dumps(listing.pictures[0].source))
    assert (again.name, again.read()) == ("ward/a.png", members["ward/a.png"])


def test_an_archive_in_a_folder_is_named_with_the_way_to_have_it_read(here):
    (here / "ward").mkdir()
    (here / "ward" / "a.png").write_bytes(png())
    pack(here / "ward" / "scans.zip", {"b.png": png()})
    listing = find(["ward"])
    assert [found.file for found in listing.pictures] == ["ward/a.png"]
    assert listing.skipped == "skipped 1 archive (read only if named by itself)"
    assert len(find(["ward/*"]).pictures) == 2


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(100)])
def test_what_is_called_an_archive_and_is_none_is_a_row(here, content):
    (here / "scans.zip").write_bytes(content)
    (found,) = find(["scans.zip"]).pictures
    assert found.file == "scans.zip"
    with pytest.raises(DamagedScan, match="cannot be opened"):
        found.source.read()


def test_a_picture_that_is_called_an_archive_is_a_picture(here):
    (here / "a.zip").write_bytes(png())
    assert find(["a.zip"]).pictures[0].source == Path("a.zip")


def test_an_archive_without_pictures_says_so(here):
    pack(here / "empty.zip", {})
    with pytest.raises(ConfigError, match=r"No picture was found in 'empty.zip'\."):
        find(["empty.zip"])
    pack(here / "scans.zip", {"a.txt": b"text"})
    with pytest.raises(ConfigError, match="skipped 1 file that is no picture"):
        find(["scans.zip"])


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "x/../../a.png", "C:/a.png", "C:a.png", "..\\a.png",
                                  "\\\\server\\share\\a.png", "a.png\0.txt", "x" * 3000 + ".png"])  # fmt: skip
def test_a_name_that_leads_elsewhere_is_refused_and_the_others_are_read(here, name):
    pack(here / "scans.zip", {name: png(1), "good.png": png(2)})
    odd, good = open_archive(here / "scans.zip")
    assert good.read() == png(2)
    with pytest.raises(ScanError):
        odd.read()
    for found in find(["scans.zip"]).pictures:
        assert ".." not in found.inside.parts
        assert not found.inside.is_absolute()


def test_names_from_other_systems_are_read_as_they_were_meant(here):
    pack(here / "scans.zip", {"ward\\b.png": png(1)})
    with zipfile.ZipFile(here / "mac.zip", "w") as archive:
        archive.writestr("größe.png", png(2))
    packed = (here / "mac.zip").read_bytes().replace(b"\x00\x08\x00\x00", b"\x00\x00\x00\x00")  # forget the UTF-8 flag
    (here / "mac.zip").write_bytes(packed)
    with zipfile.ZipFile(here / "mac.zip") as archive:
        assert archive.namelist() != ["größe.png"]
    assert [found.file for found in find(["*.zip"]).pictures] == ["mac.zip/größe.png", "scans.zip/ward/b.png"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_come_twice_or_differ_in_case_are_rows_of_their_own(here):
    with zipfile.ZipFile(here / "scans.zip", "w") as archive:
        for number, name in enumerate(["a.png", "a.png", "A.png", "a (2).png"]):
            archive.writestr(name, png(number))
    found = find(["scans.zip"]).pictures
    names = ["a.png", "a (2).png", "A.png", "a (2) (2).png"]
    assert [each.file for each in found] == [f"scans.zip/{name}" for name in names]
    assert [each.source.read() for each in found] == [png(number) for number in range(4)]


@pytest.mark.parametrize("part", ["CON", "nul.x", "a.", "b ", 'q"?', "y" * 240])
def test_overlays_get_names_that_every_system_takes(here, part):
    pack(here / "scans.zip", {f"{part}/a.png": png()})
    (found,) = find(["scans.zip"]).pictures
    folder = found.inside.parts[1]
    assert folder.split(".")[0].upper() not in ("CON", "NUL")
    assert not set(folder) & set('<>:"|?*')
    assert folder == folder.rstrip(". ")
    assert len(folder) <= 101


def test_a_link_is_not_followed(here):
    with zipfile.ZipFile(here / "scans.zip", "w") as archive:
        archive.writestr("good.png", png())
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert find(["scans.zip"]).left_out == [("scans.zip/link.png", LINK)]


def patched(path: Path, offset: int, form: str, value: int, *, local: bool = False) -> None:
    """Change a field of the only member's entry in the list, or of its own header."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, (0 if local else data.index(b"PK\x01\x02")) + offset, value)
    path.write_bytes(data)


def test_an_encrypted_member_says_so(here):
    pack(here / "scans.zip", {"a.png": png()})
    patched(here / "scans.zip", 8, "<H", 1)
    (found,) = find(["scans.zip"]).pictures
    with pytest.raises(ScanError, match="is encrypted"):
        found.source.read()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_cannot_be_bounded_are_not_unpacked(here, method):
    pack(here / "scans.zip", {"a.png": bytes(1 << 20)}, method)
    (found,) = find(["scans.zip"]).pictures
    with pytest.raises(ScanError, match="is packed by the method"):
        found.source.read()


def test_a_member_that_would_be_huge_is_refused_before_it_is_read(here, monkeypatch):
    pack(here / "scans.zip", {"a.png": bytes(archives.FREE_BYTES + 1)})
    (member,) = open_archive(here / "scans.zip")
    monkeypatch.setattr(archives.Member, "_read", None)
    with pytest.raises(ScanTooLarge, match="17 MB, packed into"):
        member.read()


@pytest.mark.parametrize("claimed", [10, 100_000, MAX_BYTES - 1])
def test_a_member_of_another_size_than_it_says_is_damaged(here, claimed):
    data = np.random.default_rng(0).bytes(4000)
    pack(here / "scans.zip", {"a.png": data})
    for offset, local in ((24, False), (22, True)):
        patched(here / "scans.zip", offset, "<I", claimed, local=local)
    (member,) = open_archive(here / "scans.zip")
    with pytest.raises((DamagedScan, ScanTooLarge)):
        member.read()


def test_an_archive_that_claims_more_than_it_could_hold_is_refused(here):
    pack(here / "scans.zip", {"a.png": png()})
    patched(here / "scans.zip", 24, "<I", 0xF0000000)
    with pytest.raises(DamagedScan, match=r"would unpack to 4\.0 GB"):
        open_archive(here / "scans.zip")


def test_members_that_overlap_are_a_bomb(here):
    """Two entries of the list that point at the same bytes."""
    pack(here / "scans.zip", {"a.png": png(), "b.png": png()})
    data = bytearray((here / "scans.zip").read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    struct.pack_into("<I", data, second + 42, 0)
    (here / "scans.zip").write_bytes(data)
    with pytest.raises(DamagedScan, match="overlap"):
        open_archive(here / "scans.zip")


def test_an_archive_of_too_many_files_is_refused(here, monkeypatch):
    monkeypatch.setattr(archives, "MOST_MEMBERS", 3)
    pack(here / "scans.zip", {f"{number}.png": b"" for number in range(4)})
    with pytest.raises(DamagedScan, match="holds 4 files"):
        open_archive(here / "scans.zip")


def test_a_list_of_files_that_is_too_long_is_not_read(here, monkeypatch):
    monkeypatch.setattr(archives, "_MOST_DIRECTORY", 100)
    pack(here / "scans.zip", {f"{number}.png": b"" for number in range(4)})
    with pytest.raises(DamagedScan, match="far too long"):
        open_archive(here / "scans.zip")


def test_a_cut_archive_is_damaged_and_a_damaged_member_is_one_row(here):
    pack(here / "scans.zip", {"a.png": png(1), "b.png": png(2)})
    data = bytearray((here / "scans.zip").read_bytes())
    (here / "cut.zip").write_bytes(data[: len(data) // 2])
    data[60:70] = bytes(10)
    (here / "scans.zip").write_bytes(data)
    with pytest.raises(DamagedScan):
        open_archive(here / "cut.zip")
    broken, good = find(["scans.zip"]).pictures
    assert good.source.read() == png(2)
    with pytest.raises(DamagedScan, match="cannot be unpacked"):
        broken.source.read()


@example(names=["\0", "..", "..", "/", "a/", "a"])
@given(names=st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_name_leads_anywhere(tmp_path, names):
    path = pack(tmp_path / "scans.zip", {name: png(number) for number, name in enumerate(names)})
    try:
        found = find([os.fspath(path)]).pictures
    except ConfigError:
        return  # names that end in a slash are folders
    assert len({each.file for each in found}) == len(found)
    for each in found:
        target = PurePath("overlays", each.inside)
        assert ".." not in target.parts
        assert os.path.normpath(target).startswith("overlays")
        assert "\0" not in each.file
        assert "\n" not in each.file
        try:
            Scan.open(each.source.read())
        except BcxError:
            continue


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_archives_are_read_or_refused_by_type(tmp_path, data):
    path = pack(tmp_path / "scans.zip", {"a.png": png(1), "ward/b.png": png(2)})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        for found in find([os.fspath(path)]).pictures:
            assert len(found.source.read()) <= MAX_BYTES
    except BcxError:
        pass


def test_more_archives_than_files_may_be_open(here):
    resource = pytest.importorskip("resource")
    for number in range(80):
        pack(here / f"{number}.zip", {"a.png": png(number)})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs to know which files are open")
    last = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (last + 20, before[1]))
    try:
        found = find(["*.zip"]).pictures
        assert sorted(each.source.read() for each in found) == sorted(png(number) for number in range(80))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
