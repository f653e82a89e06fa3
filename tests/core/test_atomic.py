"""Files are replaced as a whole or not at all, here and on other filesystems."""

import os
import resource
import stat

import pytest
from apache_beam.io.localfilesystem import LocalFileSystem

from beam_rnn.core.atomic_files import replace_file, replacing
from beam_rnn.core.filesystems import created, remove, write_bytes


class Elsewhere(LocalFileSystem):
    """Folders of this machine under another scheme, which is all that `storage` looks at."""

    @classmethod
    def scheme(cls):
        return "elsewhere"

    def create(self, path, *args, **named):
        return super().create(local(path), *args, **named)

    def rename(self, sources, targets):
        super().rename([local(path) for path in sources], [local(path) for path in targets])

    def delete(self, paths):
        super().delete([local(path) for path in paths])

    def exists(self, path):
        return super().exists(local(path))


def local(path):
    return path.removeprefix("elsewhere:/")


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new" / "a.txt"
    replace_file(path, b"old")
    path.chmod(0o600)

    replace_file(path, b"new")

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(path.parent) == ["a.txt"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to("real.txt")

    replace_file(link, b"new")

    assert link.is_symlink()
    assert (tmp_path / "real.txt").read_bytes() == b"new"


@pytest.mark.parametrize("prefix", ["", "elsewhere:/"])
def test_a_failed_write_leaves_the_old_file_unchanged(prefix, tmp_path):
    path = tmp_path / "a.txt"
    write_bytes(b"old", f"{prefix}{path}")

    def write_half():
        with created(f"{prefix}{path}") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()

    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("prefix", ["", "elsewhere:/"])
def test_a_name_that_looks_like_a_pattern_removes_that_file_alone(prefix, tmp_path):
    for name in ("run1", "run2", "run[12]", "all", "a*", "b", "?"):
        (tmp_path / name).touch()

    for name in ("run[12]", "a*", "?", "not there"):
        remove(f"{prefix}{tmp_path}/{name}")

    assert sorted(names_in(tmp_path)) == ["all", "b", "run1", "run2"]


def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path):
    """A limit on the size of files simulates a full disk."""
    path = tmp_path / "a.txt"
    replace_file(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a\.txt'$"):
            replace_file(path, bytes(2000))
        with pytest.raises(OSError, match=r"a\.txt'$"):
            write_bytes(bytes(2000), str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["a.txt"]


def test_data_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    seen = []
    fsync = os.fsync

    def noted(descriptor):
        of_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        seen.append((of_folder, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    replace_file(path, b"new")

    assert seen == [(False, False), (True, True)]


def test_neither_a_folder_nor_a_device_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept.txt").write_text("kept")
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(IsADirectoryError, match="folder' is a folder: name a file in it"):
        replace_file(tmp_path / "folder", b"")
    with pytest.raises(OSError, match="pipe' is not a regular file"), replacing(tmp_path / "pipe"):
        pass

    assert (tmp_path / "folder" / "kept.txt").read_text() == "kept"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
