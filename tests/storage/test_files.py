"""Files are there whole or not at all."""

import os

import pytest

from jaxmlp.storage.files import check_place, is_leftover, write_whole


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "model"
    for content in (b"old", b"new"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["model"]


def test_a_write_that_is_cut_off_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "model"
    write_whole(path, b"old")

    def power_failure(descriptor):
        raise OSError("power failure")

    monkeypatch.setattr(os, "fsync", power_failure)
    with pytest.raises(OSError, match="power failure"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir() if not is_leftover(entry)] == ["model"]


def test_the_content_is_flushed_before_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("replace"), replace(old, new)))
    write_whole(tmp_path / "model", b"content")
    assert events == ["fsync", "replace"]


def test_a_place_that_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "folder").mkdir()
    check_place(tmp_path / "new.csv")
    with pytest.raises(FileNotFoundError, match="no/such"):
        check_place(tmp_path / "no" / "such" / "file.csv")
    with pytest.raises(ValueError, match="folder: not a regular file"):
        check_place(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]
