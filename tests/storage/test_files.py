"""Files are there whole or not at all."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxmlp.storage import files
from jaxmlp.storage.files import check_place, is_leftover, write_whole


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "model"
    for content in (b"old", b"new"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("failure", [OSError("power failure"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_aside(tmp_path, monkeypatch, failure):
    path = tmp_path / "model"
    write_whole(path, b"old")

    def fail(descriptor):
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(failure)):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model"]


def test_the_content_is_flushed_before_the_rename(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("replace"), replace(old, new)))
    write_whole(tmp_path / "model", b"content")
    assert events == ["fsync", "replace"]


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path):
    (tmp_path / "behind").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "behind" / "model")
    for content in (b"old", b"new"):
        write_whole(tmp_path / "link", content)
        assert (tmp_path / "behind" / "model").read_bytes() == content
    assert (tmp_path / "link").is_symlink()


def test_the_longest_name_that_the_disk_allows_can_be_written(tmp_path):
    write_whole(tmp_path / ("m" * 255), b"content")
    assert os.listdir(tmp_path) == ["m" * 255]


def test_a_path_that_cannot_be_written_is_refused_beforehand(tmp_path):
    (tmp_path / "folder").mkdir()
    check_place(tmp_path / "new.csv")
    with pytest.raises(FileNotFoundError, match="no/such"):
        check_place(tmp_path / "no" / "such" / "file.csv")
    with pytest.raises(FileNotFoundError, match="no/such"):
        write_whole(tmp_path / "no" / "such" / "file.csv", b"")
    with pytest.raises(ValueError, match="folder: not a regular file"):
        check_place(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


# Writes two files of a folder, over and over, each time all bytes alike.
WRITER = """
import importlib.util, itertools, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
print("began", flush=True)
for number in itertools.count():
    files.write_whole(Path(sys.argv[2]) / f"model-{number % 2}", bytes([number % 256]) * 200_000)
"""


def start_writer(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, files.__file__, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    return process


def assert_whole(path: Path) -> None:
    content = path.read_bytes()
    assert len(content) == 200_000
    assert len(set(content)) == 1


def test_writers_that_are_killed_while_others_write_the_same_files_disturb_nobody(tmp_path):
    for number in range(2):
        write_whole(tmp_path / f"model-{number}", b"0" * 200_000)
    living = [start_writer(tmp_path) for _ in range(2)]
    for _ in range(8):
        victim = start_writer(tmp_path)
        time.sleep(0.03)
        for number in range(2):
            assert_whole(tmp_path / f"model-{number}")
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    for process in living:
        assert process.poll() is None, process.stderr.read()
        process.kill()
        process.communicate()
    write_whole(tmp_path / "model-0", b"0" * 200_000)
    for number in range(2):
        assert_whole(tmp_path / f"model-{number}")
    # What all the killed ones left is gone.
    assert sorted(os.listdir(tmp_path)) == ["model-0", "model-1"]


def test_a_file_that_several_threads_write_is_always_whole(tmp_path):
    errors = []

    def write(number):
        try:
            for _ in range(20):
                write_whole(tmp_path / "model", bytes([number]) * 200_000)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert_whole(tmp_path / "model")
    assert os.listdir(tmp_path) == ["model"]


def test_a_file_that_a_living_process_writes_aside_stays_for_an_hour(tmp_path):
    aside = tmp_path / ".unfinished" / f"{os.getppid()}-0123"
    aside.parent.mkdir()
    aside.write_bytes(b"half")
    write_whole(tmp_path / "model", b"content")
    assert aside.exists()
    assert [entry.name for entry in tmp_path.iterdir() if not is_leftover(entry)] == ["model"]
    an_hour_ago = time.time() - 3601
    os.utime(aside, (an_hour_ago, an_hour_ago))
    write_whole(tmp_path / "model", b"content")
    assert os.listdir(tmp_path) == ["model"]


def test_a_write_begins_again_if_another_process_removed_its_file(tmp_path, monkeypatch):
    replace, removed = os.replace, []

    def remove_first(old, new):
        if not removed:
            removed.append(old)
            os.unlink(old)
        replace(old, new)

    monkeypatch.setattr(os, "replace", remove_first)
    write_whole(tmp_path / "model", b"content")
    assert (tmp_path / "model").read_bytes() == b"content"
    assert len(removed) == 1
