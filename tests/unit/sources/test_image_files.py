"""Tests of which files in a folder count as images, and of what is printed about the others."""

from __future__ import annotations

import pytest

from vpr.data.images import formats
from vpr.sources.image_files import list_images, list_own_images


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.JFIF", "c.jpe", "notes.txt", "clip.mov", "other.mov", "README", ".hidden.jpg"):
        (tmp_path / name).write_bytes(b"")
    for name in ("@eaDir/a.jpg", "#recycle/d.jpg", ".thumbs/e.jpg", "sub/@eaDir/f.jpg", "sub/g.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_images_are_listed_and_everything_else_is_counted_by_suffix(folder, capsys):
    assert list_own_images(folder) == list_images(folder) == ["a.jpg", "b.JFIF", "c.jpe", "sub/g.png"]
    said = capsys.readouterr().err
    for part in ("2 .mov files", "1 .txt file", "1 other file", "2 @eaDir folders", "1 #recycle folder"):
        assert part in said
    assert "1 hidden folder" in said
    assert ".hidden.jpg" not in said


def test_photos_of_phones_are_read_or_counted(folder, capsys, monkeypatch):
    (folder / "phone.HEIC").write_bytes(b"")
    assert ("phone.HEIC" in list_images(folder)) == ("HEIF" in formats())
    monkeypatch.setattr("vpr.sources.image_files.suffixes", lambda: {".jpg"})
    list_own_images(folder)
    said = capsys.readouterr().err
    assert "1 .heic file" in said
    assert "pillow-heif" in said


def test_two_links_to_one_folder_are_both_followed_and_loops_are_not(tmp_path):
    (tmp_path / "photos/database").mkdir(parents=True)
    (tmp_path / "photos/database/x.jpg").write_bytes(b"")
    (tmp_path / "photos/database/again").symlink_to("..", target_is_directory=True)
    for name in ("val", "test"):
        (tmp_path / "sets" / name).mkdir(parents=True)
        (tmp_path / "sets" / name / "database").symlink_to(tmp_path / "photos/database", target_is_directory=True)
    (tmp_path / "sets/round").symlink_to("round", target_is_directory=True)
    listed = list_images(tmp_path / "sets")
    assert {"test/database/x.jpg", "val/database/x.jpg"} <= set(listed)
    assert len(listed) == len(set(listed))
    assert all(path.count("again") <= 1 for path in listed)
