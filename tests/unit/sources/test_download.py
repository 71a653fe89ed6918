"""Sources over HTTP, from Google Drive, from Kaggle and from the disk, with everything that goes wrong on the way."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
import zipfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import requests
import zstandard
from requests.cookies import RequestsCookieJar

from file_server import serve
from vpr.config.errors import UserError
from vpr.sources import unpack
from vpr.sources.download import addresses, cache, transfer
from vpr.sources.download.cache import fetch

DRIVE_FOLDER = "1Ucy9JONT26EjDAjIJFhuL9qeLxgSZKmf"


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for name, data in files.items():
            content.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


EXPECTED = {"train/a": b"a" * (2 << 20), "train/b": b"b" * (1 << 20)}
ARCHIVE = zipped(train__a=EXPECTED["train/a"], train__b=EXPECTED["train/b"])
HALF = 1 << 20


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server():
    with serve() as files:
        files.content["/set.zip"] = ARCHIVE
        yield files


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited for, without waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def get(data_root, tmp_path, waits, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / ".kaggle"))
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)

    def one(url: str, sha256=None):
        return fetch("sources.set", url, sha256, tmp_path / "known.json")

    return one


def unpacked(data_root: Path) -> list[Path]:
    """Return what was moved into place."""
    return [p for p in (data_root / "unpacked").glob("*") if p.is_dir() and p.suffix != ".part"]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_an_archive_is_fetched_once_checked_and_unpacked(server, get, data_root, capsys):
    url = f"{server.url}/set.zip"
    fetched = get(url, sha256(ARCHIVE))
    assert contents(fetched.folder) == EXPECTED
    assert fetched.sha256 == {"set.zip": sha256(ARCHIVE)}
    server.asked.clear()
    assert get(url, sha256(ARCHIVE)) == fetched
    assert server.asked == []
    # Deleting the archives makes room and costs no new download.
    shutil.rmtree(data_root / "downloads")
    assert get(url).folder == fetched.folder
    assert server.asked == []
    assert not list(data_root.rglob("*.part"))
    (fetched.folder / "train/a").unlink()
    with pytest.raises(UserError, match=r"1 of the 2 files unpacked into .* are missing; delete that folder"):
        get(url)
    assert "downloading set.zip" in capsys.readouterr().err


def test_a_download_goes_on_where_the_connection_broke(server, get, waits):
    step = transfer.CHUNK_BYTES
    server.script = [("break", 3 * step), ("break", 2 * step), ("break", 1), 500, ("break", step)]
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED
    assert server.ranges() == [
        None,
        *(f"bytes={n}-" for n in (3 * step, 5 * step, 5 * step + 1, 5 * step + 1, 6 * step + 1)),
    ]
    assert len(waits) == 5


def test_a_download_goes_on_in_another_process(server, get):
    server.script = [("break", HALF)] + [500] * (transfer.ATTEMPTS - 1)
    with pytest.raises(
        UserError, match=r"gave up on .*set.zip after 6 attempts: HTTP 500.*is kept: run again to continue"
    ):
        get(f"{server.url}/set.zip")
    server.asked.clear()
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED
    assert server.ranges() == ["bytes=1048576-"]


def test_a_server_that_drips_is_given_up(server, get, waits, monkeypatch):
    monkeypatch.setattr(transfer, "SLOW_FOR_S", 0.1)
    server.script = ["drip"] * transfer.ATTEMPTS
    with pytest.raises(UserError, match=r"gave up on .* after 6 attempts: the server sent \d+ bytes in 0 s"):
        get(f"{server.url}/set.zip")
    server.script = ["drip"]
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED


def test_a_part_that_was_not_asked_for_is_not_taken_for_the_whole(server, get, waits):
    server.script = ["unasked part"]
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED
    assert len(waits) == 1


@pytest.mark.parametrize(
    "text", ["²", "9" * 5000, "Mon, 01 Jan 2001 00:00:00 +99999999999999", "Mon, 01 Jan 99999999999999999999 00:00:00"]
)
def test_what_is_no_time_to_wait_is_ignored(text):
    response = requests.Response()
    response.headers["Retry-After"] = text
    assert transfer.retry_after(response) is None


@pytest.mark.parametrize("address", ["http://[::1", "http://\xff\xfe/"])
def test_a_server_that_sends_to_no_address_is_refused(server, get, address):
    server.script = [("redirect", address)]
    with pytest.raises(UserError, match=r"invalid address|not a valid address|gave up on"):
        get(f"{server.url}/set.zip")


def test_a_server_without_ranges_sends_the_whole_again(server, get):
    server.script = [("break", HALF), "whole"]
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED
    assert server.ranges() == [None, "bytes=1048576-"]


def test_a_file_that_changed_meanwhile_is_not_spliced(server, get):
    server.script = [("break", HALF)] + [500] * (transfer.ATTEMPTS - 1)
    with pytest.raises(UserError, match="gave up"):
        get(f"{server.url}/set.zip")
    server.content["/set.zip"] = zipped(train__a=b"new" * 100_000)
    assert contents(get(f"{server.url}/set.zip").folder) == {"train/a": b"new" * 100_000}


@pytest.mark.parametrize("status", sorted({*transfer.BUSY, 500, 502, 503, 504, 520}))
def test_busy_servers_are_asked_again_after_longer_and_longer_waits(server, get, waits, status):
    server.script = [status] * 4
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED
    assert len(waits) == 4
    if status == 429:
        assert waits == [0, 0, 0, 0]  # what Retry-After said
    else:
        assert all(2**k / 2 <= wait <= 2**k for k, wait in enumerate(waits, start=1))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "HTTP 404 Not Found: the link is dead; set a mirror"),
        (403, "requires a login"),
    ],
)
def test_what_won_t_change_is_not_asked_again(server, get, waits, status, message):
    server.script = [status]
    with pytest.raises(UserError, match=rf"sources.set.url: {server.url}/set.zip.*{message}"):
        get(f"{server.url}/set.zip")
    assert waits == []
    assert len(server.asked) == 1


def test_a_wrong_hash_stops_before_anything_is_unpacked_and_keeps_the_file(server, get, data_root):
    with pytest.raises(UserError, match=rf"sources.set.sha256 is {'0' * 64}, but set.zip has {sha256(ARCHIVE)}"):
        get(f"{server.url}/set.zip", "0" * 64)
    assert unpacked(data_root) == []
    server.asked.clear()
    with pytest.raises(UserError, match=r"delete .* to fetch it again"):
        get(f"{server.url}/set.zip", "0" * 64)
    assert server.asked == []
    # The right hash in the key, and the file that is there will do.
    assert contents(get(f"{server.url}/set.zip", sha256(ARCHIVE)).folder) == EXPECTED
    assert server.asked == []
    with pytest.raises(UserError, match=r"it is another file; delete .*unpacked"):
        get(f"{server.url}/set.zip", "1" * 64)


def test_the_first_hash_is_recorded_and_a_later_download_must_have_it(server, get, data_root, tmp_path):
    url = f"{server.url}/set.zip"
    get(url)
    assert json.loads((tmp_path / "known.json").read_text()) == {url: {"set.zip": sha256(ARCHIVE)}}
    for folder in ("unpacked", "downloads"):
        for path in sorted((data_root / folder).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    server.content["/set.zip"] = zipped(other=b"1")
    with pytest.raises(UserError, match=r"the first download had .*known.json.*changed by its publisher"):
        get(url)
    assert not list((data_root / "unpacked").glob("*/other"))


def test_a_web_page_instead_of_an_archive_is_said_to_be_one(server, get):
    server.content["/set.zip"] = b"<!DOCTYPE html><html>Please log in</html>"
    page = r"not a zip, tar.*it begins with b'<!DOCTYPE html.*requires a login.*renamed to set.zip.unusable"
    with pytest.raises(UserError, match=page):
        get(f"{server.url}/set.zip")
    # Nothing of it is recorded, and the right file is fetched as soon as it is there.
    server.content["/set.zip"] = ARCHIVE
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED


def test_no_room_is_said_before_the_download(server, get, monkeypatch, data_root):
    usage = unpack.shutil.disk_usage(data_root.parent)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: usage._replace(free=len(ARCHIVE) * 2 - 1))
    with pytest.raises(
        UserError, match=r"downloading and unpacking set.zip needs .* free; make room, or set DATA_ROOT"
    ):
        get(f"{server.url}/set.zip")
    assert not list(data_root.rglob("set.zip*part"))


def test_a_full_disk_loses_nothing_and_the_download_goes_on_with_more_room(server, get, small_disk):
    with pytest.raises(UserError, match=r"downloading and unpacking set.zip needs 0.01 GB, the disk has 0.00 GB free"):
        get(f"{server.url}/set.zip")
    server.script = ["length unknown"]
    # The last piece may find the room that was there when it was asked for taken by what is being written.
    needs = r"downloading set.zip needs 0.00 GB, the disk has 0.00 GB free|the disk is full while downloading .*set.zip"
    with pytest.raises(UserError, match=needs):
        get(f"{server.url}/set.zip")
    small_disk("5m")
    server.asked.clear()
    server.script = [None]
    with pytest.raises(UserError, match="downloading and unpacking"):
        get(f"{server.url}/set.zip")
    small_disk("20m")
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED
    assert all(r is not None and int(r[6:-1]) >= HALF for r in server.ranges())


def test_a_full_disk_while_unpacking_keeps_what_is_unpacked(small_disk, tmp_path):
    archive = tmp_path / "set.tar"
    archive.write_bytes(tarred("w", (entry("a"), b"1" * HALF), (entry("b"), b"2" * HALF), (entry("c"), b"3" * HALF)))
    with pytest.raises(UserError, match=r"unpacking b of set.tar needs .* GB, the disk has .* GB free; make room"):
        unpack.unpack(archive, tmp_path / "disk" / "out")
    assert sorted(contents(tmp_path / "disk/out")) == ["a"]
    stamp = (tmp_path / "disk/out/a").stat().st_mtime_ns
    small_disk("20m")
    unpack.unpack(archive, tmp_path / "disk" / "out")
    assert (tmp_path / "disk/out/a").stat().st_mtime_ns == stamp
    assert contents(tmp_path / "disk/out") == {name: (d * HALF).encode() for name, d in zip("abc", "123", strict=True)}


def test_a_tar_that_grows_beyond_the_disk_is_refused_while_there_is_room(small_disk, tmp_path):
    small_disk("20m")
    bomb = tmp_path / "bomb.tar"
    bomb.write_bytes(tarred("w:gz", *[(entry(f"{k:02d}"), bytes(4 << 20)) for k in range(8)]))
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UserError, match=r"of bomb\.tar needs"):
        unpack.unpack(bomb, tmp_path / "disk" / "out")
    usage = unpack.shutil.disk_usage(tmp_path / "disk")
    assert usage.free >= unpack.RESERVED_SHARE * usage.total


def test_a_recorded_hash_holds_for_what_is_unpacked_already(server, get, tmp_path):
    url = f"{server.url}/set.zip"
    get(url)
    (tmp_path / "known.json").write_text(json.dumps({url: {"set.zip": "0" * 64}}))
    with pytest.raises(UserError, match="the first download had 0000"):
        get(url)
    (tmp_path / "known.json").unlink()
    get(url)
    assert json.loads((tmp_path / "known.json").read_text()) == {url: {"set.zip": sha256(ARCHIVE)}}


def test_a_broken_download_is_neither_recorded_nor_kept_in_the_way(server, get, tmp_path):
    server.content["/set.zip"] = ARCHIVE[: len(ARCHIVE) // 2]
    with pytest.raises(UserError, match="renamed to"):
        get(f"{server.url}/set.zip")
    assert not (tmp_path / "known.json").exists()
    server.content["/set.zip"] = ARCHIVE
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED


def test_what_an_interrupted_unpacking_left_is_not_mixed_into_another_archive(server, get, data_root, monkeypatch):
    server.content["/set.zip"] = zipped(a=b"OLD1", gone=b"1")
    monkeypatch.setattr(cache, "unpack", lambda archive, folder: unpack.unpack(archive, folder) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        get(f"{server.url}/set.zip")
    monkeypatch.undo()
    monkeypatch.setenv("DATA_ROOT", str(data_root))
    shutil.rmtree(data_root / "downloads")
    server.content["/set.zip"] = zipped(a=b"NEW2")
    assert contents(get(f"{server.url}/set.zip").folder) == {"a": b"NEW2"}


def test_a_range_of_another_version_is_not_appended_though_the_server_sends_it(server, get):
    server.script = [("break", HALF)] + [500] * (transfer.ATTEMPTS - 1)
    with pytest.raises(UserError, match="gave up"):
        get(f"{server.url}/set.zip")
    other = zipped(train__a=b"x" * (2 << 20), train__b=b"y" * (1 << 20))
    assert len(other) == len(ARCHIVE)
    server.content["/set.zip"] = other
    server.ignores_if_range = True
    assert contents(get(f"{server.url}/set.zip").folder) == {"train/a": b"x" * (2 << 20), "train/b": b"y" * (1 << 20)}


def test_a_server_that_names_no_version_sends_the_whole_again(server, get):
    server.names_version = False
    server.script = [("break", HALF)]
    assert contents(get(f"{server.url}/set.zip").folder) == EXPECTED
    assert server.ranges() == [None, None]


def test_breaks_at_varying_points_without_ranges_come_to_an_end(server, get, waits):
    step = transfer.CHUNK_BYTES
    server.names_version = False
    server.script = [("break", k * step) for k in (1, 3, 1, 2, 3, 1, 2, 1, 3, 2, 1)]
    with pytest.raises(UserError, match="gave up"):
        get(f"{server.url}/set.zip")
    assert len(waits) == 1 + transfer.ATTEMPTS - 1


def test_secrets_in_an_address_are_written_nowhere(server, get, tmp_path, capsys):
    host = server.url.removeprefix("http://")
    server.script = [500, ("break", 10)]
    get(f"http://me:pass@{host}/set.zip?token=SECRET")
    printed = capsys.readouterr().out + (tmp_path / "known.json").read_text()
    assert "SECRET" not in printed
    assert "pass" not in printed
    assert "/set.zip?" in printed  # but another query is another file
    assert addresses.redacted("file:///home/me/sets/gsv.zip") == "file://gsv.zip"
    assert transfer.reason_of(ValueError("url: /o.zip?X-Signature=SECRET (bad)")) == "ValueError: url: /o.zip?... (bad)"


def test_a_date_to_retry_after_is_understood(server):
    response = requests.Response()
    response.headers["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(seconds=90))
    assert 80 < transfer.retry_after(response) <= 90
    response.headers["Retry-After"] = "soon"
    assert transfer.retry_after(response) is None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("kaggle://gsv-xs", "expected kaggle://owner/dataset"),
        ("kaggle://a/b/versions/new", "expected kaggle://owner/dataset"),
        ("http:///set.zip", "expected http://server/file"),
        ("gdrive://x", "expected gdrive://id"),
        ("file:///nowhere/at/all", "is neither a file nor a folder"),
    ],
)
def test_addresses_that_can_t_be_are_refused_before_anything_is_fetched(url, message):
    with pytest.raises(UserError, match=message):
        addresses.check_url("sources.s", url)


@pytest.mark.parametrize("url", ["ftp://host/set.zip", "set.zip", "file://", "/data/set"])
def test_another_scheme_is_refused(get, url):
    with pytest.raises(UserError, match="expected one of kaggle://, gdrive://, http://, https://, rsync://, file://"):
        get(url)


# Google Drive: gdown's own requests, answered by the local server.


@pytest.fixture
def drive(server, monkeypatch):
    real = requests.Session.request

    def here(session, method, url, *args, **kwargs):
        return real(session, method, url.replace("https://drive.google.com", server.url), *args, **kwargs)

    monkeypatch.setattr(requests.Session, "request", here)
    server.content["/other.zip"] = zipped(val__c=b"c")
    server.drive = (DRIVE_FOLDER, {"set.zip": "A" * 28, "other.zip": "B" * 28})
    return server


def test_a_drive_folder_is_fetched_and_all_its_archives_unpacked(drive, get):
    fetched = get(f"gdrive://{DRIVE_FOLDER}")
    both = {f"set/{name}": data for name, data in EXPECTED.items()} | {"other/val/c": b"c"}
    assert contents(fetched.folder) == both
    assert sorted(fetched.sha256) == ["other.zip", "set.zip"]
    drive.asked.clear()
    assert get(f"gdrive://{DRIVE_FOLDER}") == fetched
    assert drive.asked == []


def test_one_file_of_a_drive_folder(drive, get):
    assert contents(get(f"gdrive://{DRIVE_FOLDER}/other.zip").folder) == {"val/c": b"c"}
    with pytest.raises(UserError, match=r"the Drive folder holds \['other.zip', 'set.zip'\], but not 'gsv.zip'"):
        get(f"gdrive://{DRIVE_FOLDER}/gsv.zip")


def test_a_drive_file_goes_on_after_a_break_and_in_another_process(drive, get, waits):
    url = f"gdrive://{'A' * 28}"
    # One request asks for the name, then one for the address before each for the bytes; a busy answer loses nothing.
    drive.script = [None, None, ("break", HALF), *([None, 503] * (transfer.ATTEMPTS - 1))]
    with pytest.raises(UserError, match=r"gave up on gdrive://A+ after 6 attempts"):
        get(url)
    drive.asked.clear()
    assert contents(get(url).folder) == EXPECTED
    assert "bytes=1048576-" in [r for _, _, r in drive.asked]


def test_drive_s_refusal_says_what_to_do(drive, get):
    with pytest.raises(
        UserError, match=r"Drive limits the downloads.*download it in a browser and set the url to file://"
    ):
        get(f"gdrive://{'C' * 28}")


# Kaggle: kagglehub's own requests, answered by the local server.


@pytest.fixture
def kaggle(server, monkeypatch):
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.url)
    server.content["/signed.zip"] = ARCHIVE
    return server


def test_a_kaggle_dataset_is_fetched_and_goes_on_after_a_break(kaggle, get, tmp_path):
    kaggle.script = [None, ("break", HALF)]  # the first request asks for the address
    fetched = get("kaggle://giovannimonco22/gsv-xs")
    assert contents(fetched.folder) == EXPECTED
    assert list(fetched.sha256) == ["gsv-xs.zip"]
    assert kaggle.ranges() == [None, None, None, "bytes=1048576-"]
    assert "signature" not in (tmp_path / "known.json").read_text()


def test_kaggle_s_login_is_named_when_it_is_wanted_and_used_when_it_is_there(kaggle, get, monkeypatch):
    kaggle.needs_login = True
    with pytest.raises(UserError, match=r"HTTP 403.*a Kaggle login: set KAGGLE_API_TOKEN, or KAGGLE_USERNAME"):
        get("kaggle://owner/set")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    assert contents(get("kaggle://owner/set/versions/3").folder) == EXPECTED


# The disk.


def test_the_folders_of_a_drive_folder_are_kept(drive, get, monkeypatch):
    import gdown

    files = [("train/set.zip", "A" * 28), ("val/set.zip", "B" * 28), ("notes/readme.txt", "D" * 28)]
    listed = [gdown.download.__globals__["GoogleDriveFileToDownload"](i, path, path) for path, i in files]
    monkeypatch.setattr(gdown, "download_folder", lambda **_: listed)
    drive.drive = (DRIVE_FOLDER, {"set.zip": "A" * 28, "other.zip": "B" * 28, "readme.txt": "D" * 28})
    drive.content["/readme.txt"] = b"hello"
    found = contents(get(f"gdrive://{DRIVE_FOLDER}").folder)
    assert sorted(found) == ["notes/readme.txt", "train/set/train/a", "train/set/train/b", "val/set/val/c"]


def test_a_folder_and_an_archive_of_the_user_are_used_where_they_lie(tmp_path, get, data_root):
    folder = tmp_path / "my set"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"1")
    assert get(f"file://{folder}").folder == folder
    archive = tmp_path / "mine.zip"
    archive.write_bytes(ARCHIVE)
    fetched = get(f"file://{archive}", sha256(ARCHIVE))
    assert contents(fetched.folder) == EXPECTED
    assert not list((data_root / "downloads").rglob("*.zip"))
    assert not (tmp_path / "known.json").exists()
    archive.write_bytes(zipped(other=b"2"))
    assert contents(get(f"file://{archive}").folder) == {"other": b"2"}
    with pytest.raises(UserError, match="a folder has no hash to check"):
        get(f"file://{folder}", "0" * 64)
    with pytest.raises(UserError, match="nowhere is neither a file nor a folder"):
        get(f"file://{tmp_path}/nowhere")


# Archives.


def tarred(mode: str, *entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as content:
        for entry, data in entries:
            entry.size = len(data)
            content.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def entry(name: str, **changes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


PLAIN = [(entry("train/a"), b"1"), (entry("train/deep/b"), b"22")]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.zst"])
def test_every_kind_of_archive_is_unpacked(tmp_path, kind):
    archive = tmp_path / f"set.{kind}"
    content = {
        "zip": lambda: zipped(train__a=b"1", train__deep__b=b"22"),
        "tar": lambda: tarred("w", *PLAIN),
        "tar.gz": lambda: tarred("w:gz", *PLAIN),
        "tar.zst": lambda: zstandard.ZstdCompressor().compress(tarred("w", *PLAIN)),
    }[kind]()
    archive.write_bytes(content)
    assert unpack.is_archive(archive)
    unpack.unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == {"train/a": b"1", "train/deep/b": b"22"}


def linked_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        content.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def named_zip(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        content.writestr(zipfile.ZipInfo(name), b"1")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (named_zip("../evil"), "a path that leaves the folder: '../evil'"),
        (named_zip("a/../../evil"), "a path that leaves the folder"),
        (named_zip("..\\evil"), "a path that leaves the folder"),
        (named_zip("/evil"), "an absolute path: '/evil'"),
        (named_zip("C:\\evil"), "an absolute path"),
        (linked_zip(), "a link: 'link'"),
        (tarred("w", (entry("../evil"), b"1")), "a path that leaves the folder"),
        pytest.param(tarred("w:gz", (entry("/evil"), b"1")), "an absolute path", id="gzip"),  # its bytes hold the time
        (tarred("w", (entry("l", type=tarfile.SYMTYPE, linkname="/etc"), b"")), "a link: 'l'"),
        (tarred("w", (entry("l", type=tarfile.LNKTYPE, linkname="../evil"), b"")), "a link"),
        (tarred("w", (entry("d", type=tarfile.CHRTYPE), b"")), "a device: 'd'"),
        (tarred("w", (entry("d", type=tarfile.FIFOTYPE), b"")), "a device"),
        (zstandard.ZstdCompressor().compress(tarred("w", (entry("../evil"), b"1"))), "a path that leaves"),
    ],
)
def test_archives_that_try_to_escape_are_refused(tmp_path, get, data_root, content, what):
    archive = tmp_path / "bad.archive"
    archive.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(what)):
        get(f"file://{archive}")
    assert not list(tmp_path.rglob("evil"))
    assert unpacked(data_root) == []
    assert not [p for p in tmp_path.rglob("*") if p.is_symlink()]


def test_a_tar_is_read_to_its_end_whatever_wraps_it(tmp_path):
    whole = tarred("w", *PLAIN, (entry("c"), b"3" * 5000))
    expected = {"train/a": b"1", "train/deep/b": b"22", "c": b"3" * 5000}
    cut = 512 * 2
    frame = zstandard.ZstdCompressor().compress
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    for name, content in {
        "gz": gzip.compress(whole[:cut]) + gzip.compress(whole[cut:]),
        "bz2": bz2.compress(whole[:cut]) + bz2.compress(whole[cut:]),
        "zst": skippable + frame(whole[:cut]) + frame(whole[cut:]),
    }.items():
        (tmp_path / name).write_bytes(content)
        unpack.unpack(tmp_path / name, tmp_path / f"out-{name}")
        assert contents(tmp_path / f"out-{name}") == expected
    inner = tarred("w", (entry("first"), b"1"), (entry("inner.zip"), zipped(x=b"1")))
    (tmp_path / "nested").write_bytes(inner)
    unpack.unpack(tmp_path / "nested", tmp_path / "out-nested")
    assert sorted(contents(tmp_path / "out-nested")) == ["first", "inner.zip"]


def test_a_tar_that_is_cut_off_or_damaged_is_broken(tmp_path):
    whole = tarred("w", *PLAIN)
    damaged = bytearray(gzip.compress(whole))
    damaged[-6] ^= 1  # the checksum
    for k, content in enumerate([whole[:1024], whole[:1500], gzip.compress(whole[:1024]), bytes(damaged)]):
        (tmp_path / f"{k}").write_bytes(content)
        with pytest.raises(unpack.UnusableArchive, match="the archive is damaged"):
            unpack.unpack(tmp_path / f"{k}", tmp_path / "out")


def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        content.writestr("a", b"1")
        content.writestr("a/b", b"2")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match="a file and a folder of the same name"):
        unpack.unpack(tmp_path / "a.zip", tmp_path / "out")


def zip_of(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        for name in names:
            content.writestr(zipfile.ZipInfo(name), b"1")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE], ids=["long name", "pax"])
def test_a_tar_s_words_about_a_file_may_not_be_longer_than_any_name(tmp_path, kind):
    header = entry("x", type=kind, size=1 << 30).tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "a.tar").write_bytes(header + bytes(10_240))
    with pytest.raises(unpack.UnusableArchive, match="a header of 1,073,741,824 bytes"):
        unpack.unpack(tmp_path / "a.tar", tmp_path / "out")


def test_a_zip_entry_without_a_name_is_left_out(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of("", "a"))
    unpack.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert contents(tmp_path / "out") == {"a": b"1"}


@pytest.mark.parametrize(
    "name",
    ["a/" * 2000 + "a", "a" * 300, "d" * 300 + "/a", "/".join(["a" * 200] * 50)],
    ids=["deep", "long", "long folder", "long in sum"],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_paths_that_no_disk_takes_are_refused(tmp_path, name, kind):
    (tmp_path / "a").write_bytes(zip_of(name) if kind == "zip" else tarred("w", (entry(name), b"1")))
    with pytest.raises(UserError, match=r"a: refused, because it holds a path that is too long: '[ad/]+\.\.\.'"):
        unpack.unpack(tmp_path / "a", tmp_path / "out")


def test_a_broken_archive_is_said_to_be_broken(tmp_path):
    damaged = bytearray(zipped(a=b"x" * 1000))
    damaged[200] ^= 1
    (tmp_path / "a.zip").write_bytes(damaged)
    with pytest.raises(UserError, match=r"a.zip: the archive is damaged: Bad CRC-32"):
        unpack.unpack(tmp_path / "a.zip", tmp_path / "out")
    cut = tarred("w:gz", (entry("a"), bytes(range(256)) * 400))[:-300]
    (tmp_path / "a.tar.gz").write_bytes(cut)
    with pytest.raises(UserError, match="the archive is damaged"):
        unpack.unpack(tmp_path / "a.tar.gz", tmp_path / "out")


def test_an_interrupted_unpacking_goes_on(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(ARCHIVE)
    unpack.unpack(tmp_path / "a.zip", tmp_path / "out")
    half, whole = tmp_path / "out/train/a", tmp_path / "out/train/b"
    half.write_bytes(b"a" * 10)
    stamp = whole.stat().st_mtime_ns
    unpack.unpack(tmp_path / "a.zip", tmp_path / "out")
    assert contents(tmp_path / "out") == EXPECTED
    assert whole.stat().st_mtime_ns == stamp


def test_an_archive_inside_an_archive_is_unpacked_as_well(server, data_root, tmp_path):
    server.content["/outer.zip"] = zipped(**{"AmsterTime-v1.0.zip": zipped(new__1=b"new", old__1=b"old"), "note": b"x"})
    folder = fetch("sources.s", server.url + "/outer.zip", None, tmp_path / "known.json").folder
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"AmsterTime-v1.0/new/1", "AmsterTime-v1.0/old/1", "note"}


@pytest.fixture
def rsync_daemon(tmp_path):
    """Address of a folder ``shared`` that a local rsync daemon serves, and its path."""
    program = shutil.which("rsync")
    if program is None:
        pytest.skip("rsync is not installed")
    shared = tmp_path / "shared"
    (shared / "images/test").mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "rsyncd.conf"
    owner = f"uid = {os.getuid()}\ngid = {os.getgid()}"
    config.write_text(f"use chroot = no\npid file = {tmp_path}/pid\n[shared]\npath = {shared}\n{owner}\n")
    daemon = subprocess.Popen(
        [program, "--daemon", "--no-detach", f"--config={config}", f"--port={port}", "--address=127.0.0.1"]
    )
    for _ in range(200):
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield f"rsync://127.0.0.1:{port}/shared", shared
    daemon.terminate()
    daemon.wait()


def test_a_folder_comes_by_rsync_and_is_not_fetched_twice(rsync_daemon, data_root, tmp_path):
    url, shared = rsync_daemon
    for name in "ab":
        (shared / f"images/test/{name}.jpg").write_bytes(name.encode() * 1000)
    (shared / "images/test/away").symlink_to("/etc/passwd")
    folder = fetch("sources.s", url, None, tmp_path / "known.json").folder
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["a.jpg", "b.jpg"]
    (shared / "images/test/b.jpg").unlink()
    assert fetch("sources.s", url, None, tmp_path / "known.json").folder == folder
    (folder / "images/test/a.jpg").unlink()
    assert (fetch("sources.s", url, None, tmp_path / "known.json").folder / "images/test/a.jpg").is_file()
    with pytest.raises(UserError, match=r"sources\.s\.url: rsync of .*gone ended with"):
        fetch("sources.s", url + "/gone", None, tmp_path / "known.json")
    with pytest.raises(UserError, match="a folder has no hash to check"):
        fetch("sources.s", url, "0" * 64, tmp_path / "known.json")


def test_without_rsync_the_message_says_how_to_get_it(data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs the program rsync: install it, for example by `apt install rsync`"):
        fetch("sources.s", "rsync://example.org/set", None, tmp_path / "known.json")


@pytest.mark.parametrize("url", ["http://host:99999/x", "http://host:0/x", "http://[::1/x"])
def test_an_address_without_a_valid_server_or_port_is_refused(url, data_root, tmp_path):
    with pytest.raises(UserError, match=r"sources\.s\.url is .*; expected http"):
        fetch("sources.s", url, None, tmp_path / "known.json")


@pytest.mark.parametrize("end", ["%2e%2e", "a%00b"])
def test_a_name_that_no_file_can_have_is_replaced(server, data_root, tmp_path, end):
    server.content |= dict.fromkeys((f"/x/{end}", "/", "/x", "/x/.."), ARCHIVE)  # ".." may be the folder above
    found = fetch("sources.s", f"{server.url}/x/{end}", None, tmp_path / "known.json")
    assert set(found.sha256) == {"download"}


def test_a_public_server_cannot_send_the_download_into_the_own_network(server, data_root, tmp_path, monkeypatch):
    server.content["/away.zip"] = ARCHIVE
    server.script = [("redirect", f"{server.url}/set.zip")]
    assert fetch("sources.s", f"{server.url}/away.zip", None, tmp_path / "known.json").folder.is_dir()
    shutil.rmtree(data_root)
    server.script = [("redirect", f"{server.url}/set.zip")]
    port = server.url.rpartition(":")[2]
    real = transfer.is_private
    monkeypatch.setattr(transfer, "is_private", lambda host: host != "localhost" and real(host))
    with pytest.raises(UserError, match=r"redirects to .* which is in this machine's own network"):
        fetch("sources.s", f"http://localhost:{port}/away.zip", None, tmp_path / "known.json")


def test_addresses_of_networks_are_recognised():
    assert all(transfer.is_private(host) for host in ("127.0.0.1", "localhost", "10.1.2.3", "::1", "169.254.1.1"))
    assert not transfer.is_private("8.8.8.8")


def test_cookies_stay_with_their_domain():
    jar = RequestsCookieJar()
    jar.set("SID", "secret", domain=".google.com", path="/")
    with transfer._PublicRedirects("s", "http://x") as session:
        for url, sent in (("https://drive.google.com/uc", "SID=secret"), ("https://evil.example.org/x", None)):
            prepared = session.prepare_request(requests.Request("GET", url, cookies=jar))
            assert prepared.headers.get("Cookie") == sent


def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for(server, data_root, tmp_path, waits, monkeypatch):
    server.script = [503]
    monkeypatch.setattr(transfer, "retry_after", lambda response: 3600.0)
    with pytest.raises(UserError, match="the server asks to wait 3,600 s; run again then"):
        fetch("sources.s", server.url + "/set.zip", None, tmp_path / "known.json")
    assert not waits


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_of_far_too_many_files_is_refused(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(unpack, "MANY_FILES", 50)
    path = tmp_path / f"many.{kind}"
    if kind == "zip":
        path.write_bytes(zipped(**{f"f{k}": b"" for k in range(300)}))
        monkeypatch.setattr(unpack, "LEAST_BYTES_OF_A_FILE", 1000)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for k in range(3000):
                archive.addfile(tarfile.TarInfo(f"f{k}"))
    with pytest.raises(UserError, match=r"refused, because it holds more than .* files"):
        unpack.unpack(path, tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) < 2000
