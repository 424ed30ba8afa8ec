"""Outputs appear whole or not at all, and every way in which they cannot be written is one clear sentence."""

import errno
import gzip
import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit import files
from edgekit.errors import OutputError

_ROOT = os.geteuid() == 0


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


class TestCheckOutput:
    def _code(self, path: Path, *, overwrite: bool = False) -> str:
        with pytest.raises(OutputError) as caught:
            files.check_output(path, overwrite=overwrite)
        assert str(path.parent) in caught.value.message
        assert caught.value.hint
        return caught.value.code

    def test_a_new_file_is_fine_and_is_not_made(self, tmp_path):
        files.check_output(tmp_path / "new.tflite", overwrite=False)
        assert _names(tmp_path) == []

    def test_a_folder(self, tmp_path):
        assert self._code(tmp_path / ".." / tmp_path.name) == "EK601"

    def test_an_existing_file_needs_overwrite(self, tmp_path):
        path = tmp_path / "old"
        path.touch()
        assert self._code(path) == "EK602"
        files.check_output(path, overwrite=True)

    def test_a_missing_folder(self, tmp_path):
        assert self._code(tmp_path / "none" / "model.tflite") == "EK603"

    def test_a_file_where_the_folder_should_be(self, tmp_path):
        (tmp_path / "file").touch()
        assert self._code(tmp_path / "file" / "model.tflite") == "EK603"

    def test_a_device_is_refused_even_with_overwrite(self):
        assert self._code(Path("/dev/null"), overwrite=True) == "EK607"

    def test_a_name_that_is_too_long(self, tmp_path):
        assert self._code(tmp_path / ("n" * 300)) == "EK605"

    def test_a_file_system_that_takes_no_files(self):
        assert self._code(Path("/proc/model.tflite")) in {"EK603", "EK605"}

    @pytest.mark.skipif(_ROOT, reason="root may write into any folder")
    def test_a_read_only_folder(self, tmp_path):
        tmp_path.chmod(0o500)
        assert self._code(tmp_path / "model.tflite") == "EK605"


class TestFolders:
    def _source(self, folder: Path) -> Path:
        source = folder / "source"
        (source / "inner").mkdir(parents=True)
        (source / "mark").write_text("new")
        (source / "inner" / "weights").write_bytes(b"123")
        (source / "inner" / "weights").chmod(0o600)
        return source

    def _code(self, path: Path, *, overwrite: bool = False) -> str:
        with pytest.raises(OutputError) as caught:
            files.check_output_folder(path, "mark", overwrite=overwrite)
        return caught.value.code

    def test_only_one_with_the_mark_is_replaced(self, tmp_path):
        path = tmp_path / "out"
        files.check_output_folder(path, "mark", overwrite=False)
        path.mkdir()
        assert self._code(path, overwrite=True) == "EK601"
        (path / "mark").touch()
        assert self._code(path) == "EK602"
        files.check_output_folder(path, "mark", overwrite=True)
        assert self._code(tmp_path / "none" / "out") == "EK603"
        assert self._code(Path("/dev/null"), overwrite=True) == "EK607"

    @pytest.mark.parametrize("kind", ["nothing", "folder", "file", "link"])
    def test_it_is_there_whole_and_what_was_there_is_gone(self, tmp_path, kind):
        source, path = self._source(tmp_path), tmp_path / "out"
        made = tmp_path / "elsewhere" if kind == "link" else path
        if kind in {"folder", "link"}:
            made.mkdir()
            (made / "old").touch()
        if kind == "link":
            path.symlink_to(made)
        if kind == "file":
            path.touch()
        files.copy_folder(source, path)
        assert path.is_symlink() == (kind == "link")
        assert _names(made) == ["inner", "mark"]
        assert (made / "inner" / "weights").read_bytes() == b"123"
        assert stat.S_IMODE((made / "inner" / "weights").stat().st_mode) == 0o666 & ~files._umask()
        assert _names(tmp_path) == sorted({"source", "out", made.name})

    @pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
    @pytest.mark.parametrize("at", [1, 2])
    def test_what_was_there_stays_where_it_cannot_be_replaced(self, tmp_path, monkeypatch, failure, at):
        source, path = self._source(tmp_path), tmp_path / "out"
        path.mkdir()
        (path / "mark").write_text("old")
        rename, calls = Path.rename, []

        def failing(this: Path, target: Path) -> Path:
            calls.append(target)
            if len(calls) == at:
                raise failure
            return rename(this, target)

        monkeypatch.setattr(Path, "rename", failing)
        with pytest.raises((OutputError, KeyboardInterrupt)):
            files.copy_folder(source, path)
        assert (path / "mark").read_text() == "old"
        assert _names(tmp_path) == ["out", "source"]


class TestAtomicWrite:
    def test_the_file_appears_at_the_end(self, tmp_path):
        path = tmp_path / "model.bin"
        with files.atomic_write(path) as part:
            part.write_bytes(b"whole")
            assert not path.exists()
            assert part.parent == tmp_path
        assert path.read_bytes() == b"whole"
        assert _names(tmp_path) == ["model.bin"]

    @pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
    def test_a_failure_leaves_what_was_there(self, tmp_path, failure):
        path = tmp_path / "model.bin"
        path.write_bytes(b"before")

        def write_half() -> None:
            with files.atomic_write(path) as part:
                part.write_bytes(b"half")
                raise failure

        with pytest.raises(failure):
            write_half()
        assert path.read_bytes() == b"before"
        assert _names(tmp_path) == ["model.bin"]

    @pytest.mark.parametrize(
        ("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)], ids=["022", "077", "002"]
    )
    def test_permissions_are_those_of_any_new_file(self, tmp_path, mask, mode):
        before = os.umask(mask)
        try:
            files.write_bytes(tmp_path / "model.bin", b"")
            assert os.umask(mask) == mask
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "model.bin").stat().st_mode) == mode

    def test_content_is_synced_before_it_is_renamed_and_the_folder_after(self, tmp_path, monkeypatch):
        path = tmp_path / "model.bin"
        path.write_bytes(b"before")
        seen = []

        def fsync(descriptor):
            name = Path(f"/proc/self/fd/{descriptor}").readlink().name
            seen.append((name == tmp_path.name, path.read_bytes()))

        monkeypatch.setattr(os, "fsync", fsync)
        files.write_bytes(path, b"after")
        assert seen == [(False, b"before"), (True, b"after")]

    def test_a_symbolic_link_stays_one(self, tmp_path):
        (tmp_path / "folder").mkdir()
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "folder" / "file")
        files.write_bytes(link, b"content")
        assert link.is_symlink()
        assert (tmp_path / "folder" / "file").read_bytes() == b"content"
        assert _names(tmp_path / "folder") == ["file"]

    def test_a_name_of_the_greatest_length(self, tmp_path):
        files.write_bytes(tmp_path / ("n" * 255), b"content")
        assert _names(tmp_path) == ["n" * 255]

    def test_a_folder_that_vanished(self, tmp_path):
        with pytest.raises(OutputError) as caught:
            files.write_bytes(tmp_path / "gone" / "model.bin", b"")
        assert caught.value.code == "EK605"

    def test_an_input_that_may_not_be_read_is_not_blamed_on_the_output(self, tmp_path):
        with pytest.raises(PermissionError), files.atomic_write(tmp_path / "out"):
            raise PermissionError(errno.EACCES, "Permission denied", "input.npz")
        assert _names(tmp_path) == []

    def test_a_limit_on_file_sizes_is_an_output_error(self, tmp_path):
        script = (
            "import resource, sys, pathlib\n"
            "from edgekit import files\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
            "try:\n"
            "    files.write_bytes(pathlib.Path(sys.argv[1]), bytes(1 << 20))\n"
            "except files.OutputError as error:\n"
            "    print(error.code, error.hint)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "big")], capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("EK605 Raise the limit of a file's size (ulimit -f)")
        assert _names(tmp_path) == []
        assert resource.getrlimit(resource.RLIMIT_FSIZE) != (4096, 4096)

    def test_killed_in_the_middle_the_old_file_is_still_whole(self, tmp_path):
        path = tmp_path / "model.bin"
        path.write_bytes(b"before")
        script = (
            "import os, signal, sys, pathlib\n"
            "from edgekit import files\n"
            "with files.atomic_write(pathlib.Path(sys.argv[1])) as part:\n"
            "    part.write_bytes(b'half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert path.read_bytes() == b"before"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if not _ROOT or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk(small_disk):
    path = small_disk / "model.bin"
    path.write_bytes(b"before")
    with pytest.raises(OutputError) as caught:
        files.write_bytes(path, bytes(1 << 20))
    assert caught.value.code == "EK604"
    assert path.read_bytes() == b"before"
    assert _names(small_disk) == ["model.bin"]


def test_a_read_only_disk(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError) as caught:
        files.check_output(small_disk / "model.bin", overwrite=False)
    assert caught.value.code == "EK605"
    assert "Read-only file system" in caught.value.message


def test_copy_file(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"content")
    files.copy_file(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"


class TestDigests:
    def test_of_a_file(self, tmp_path):
        (tmp_path / "abc").write_bytes(b"abc")
        # The example of FIPS 180-4.
        assert files.sha256(tmp_path / "abc") == (
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )

    def test_of_a_folder_is_that_of_its_names_and_contents(self, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        for folder in (first, second):
            (folder / "variables").mkdir(parents=True)
            (folder / "variables" / "data").write_bytes(b"1")
            (folder / "graph").write_bytes(b"2")
        digest = files.sha256(first)
        lines = "".join(
            f"{name}\0{hashlib.sha256(content).hexdigest()}\n"
            for name, content in [("graph", b"2"), ("variables/data", b"1")]
        )
        assert digest == hashlib.sha256(lines.encode()).hexdigest()
        assert files.sha256(second) == digest
        (second / "graph").rename(second / "grap")
        assert files.sha256(second) != digest

    def test_sizes(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "a").write_bytes(bytes(100))
        (tmp_path / "folder" / "b").write_bytes(bytes(11))
        assert files.size_bytes(tmp_path / "folder" / "a") == 100
        assert files.size_bytes(tmp_path / "folder") == 111

    @given(content=st.binary(max_size=4096))
    def test_gzip_bytes_is_what_gzip_writes(self, tmp_path_factory, content):
        path = tmp_path_factory.mktemp("gzip") / "file"
        path.write_bytes(content)
        # gzip adds the file's name to the header where it knows it; edgekit's count has none.
        assert files.gzip_bytes(path) == len(gzip.compress(content, 9, mtime=0))
