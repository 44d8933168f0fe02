"""Kaggle downloads through the real kagglehub client, against a local server.

Downloads are pinned, complete, resumed and limited, and each failure has its own message.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasets import kaggle
from datasets.archives import unpack
from datasets.errors import EnvironmentProblem, InputError
from datasets.source import open_source
from tests.conftest import complaint, run_in_process
from tests.kaggle_server import KaggleServer, Published, zipped
from tests.test_sources import dataset, tree

HANDLE = "owner/holes"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = dataset(tmp_path_factory.mktemp("kaggle") / "holes")
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def server(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KaggleServer]:
    with KaggleServer({HANDLE: {3: Published(zipped(files), "CC BY 4.0")}}) as running:
        for name, value in running.environment(tmp_path / "hub").items():
            monkeypatch.setenv(name, value)
        # For its user agent kagglehub searches the call stack five times a request, which under pytest takes a second.
        monkeypatch.setattr("kagglehub.clients.search_lib_in_call_stack", lambda *_: None)
        kaggle._fetch.cache_clear()
        yield running


def fetched(spec: str = f"kaggle:{HANDLE}") -> kaggle.Fetched:
    """The dataset, fetched as in a new process."""
    kaggle._fetch.cache_clear()
    return kaggle.fetch(spec)


def requested(server: KaggleServer) -> list[str]:
    return [
        f"{request.path.rsplit('/', 1)[1]}{' ' + request.range if request.range else ''}"
        for request in server.requests
    ]


def test_a_handle_opens_as_a_dataset_and_is_pinned(server: KaggleServer, tmp_path: Path) -> None:
    lines: list[str] = []
    source = open_source(f"kaggle:{HANDLE}", cache=tmp_path, say=lines.append)
    assert len(source.images) == 5
    assert source.origin == "Kaggle owner/holes/versions/3, licence: CC BY 4.0"
    assert lines == ["  kaggle:owner/holes: version 3, licence: CC BY 4.0"]
    # Version 4 is now the newest; version 3 is still available by its number, without any request.
    server.datasets[HANDLE][4] = Published(zipped({"readme.md": b"empty now"}))
    server.requests.clear()
    assert fetched(f"kaggle:{HANDLE}/versions/3").folder.name == "3"
    assert server.requests == []
    assert fetched().folder.name == "4"


def test_without_a_network_the_version_on_disk_is_used(
    server: KaggleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetched()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetched().folder == first.folder
    with pytest.raises(EnvironmentProblem, match="no connection to Kaggle; download the dataset elsewhere"):
        fetched("kaggle:owner/other")


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, EnvironmentProblem, "does not accept the credentials"),
        (403, EnvironmentProblem, "has no such dataset; check the handle, accept"),
        (404, InputError, "no such dataset or version"),
        (429, EnvironmentProblem, "limits the rate of requests"),
        (500, EnvironmentProblem, "status 500"),
    ],
)
def test_kaggle_http_errors_are_explained(
    server: KaggleServer, status: int, kind: type[Exception], message: str
) -> None:
    server.status = status
    with pytest.raises(kind, match=message):
        fetched()
    server.status = None
    assert len(list(fetched().folder.rglob("*.jpg"))) == 5


def test_a_version_or_dataset_that_does_not_exist(server: KaggleServer) -> None:
    with pytest.raises(InputError, match="no such dataset or version"):
        fetched(f"kaggle:{HANDLE}/versions/9")
    with pytest.raises(EnvironmentProblem, match="no such dataset; check the handle"):
        fetched("kaggle:owner/nothing")


@pytest.mark.parametrize(
    "spec", ["kaggle:holes", "kaggle:owner/holes/versions/0", "kaggle:a/b/c", "kaggle:/", "kaggle:../../x"]
)
def test_malformed_handles(server: KaggleServer, spec: str) -> None:
    with pytest.raises(InputError, match="expected kaggle:owner/dataset"):
        fetched(spec)
    assert server.requests == []


def large(files: dict[str, bytes]) -> Published:
    """An archive of over 3 MB: the client keeps whole megabytes of an interrupted download."""
    return Published(zipped({**files, "noise.bin": os.urandom(3_500_000)}))


def test_a_broken_download_resumes(server: KaggleServer, files: dict[str, bytes]) -> None:
    server.datasets[HANDLE][3] = large(files)
    server.break_after = 2_200_000
    lines: list[str] = []
    kaggle._fetch.cache_clear()
    download = kaggle.fetch(f"kaggle:{HANDLE}", lines.append)
    assert any("resuming the download" in line for line in lines)
    assert "archive.zip bytes=2097152-" in requested(server)
    assert {p.relative_to(download.folder).as_posix() for p in download.folder.rglob("*") if p.is_file()} == {
        *files,
        "noise.bin",
    }


def test_a_killed_download_resumes_in_the_next_call(server: KaggleServer, files: dict[str, bytes]) -> None:
    server.datasets[HANDLE][3] = large(files)
    folder = Path(os.environ["KAGGLEHUB_CACHE"]) / "datasets" / "owner" / "holes"
    folder.mkdir(parents=True)
    (folder / "3.archive").write_bytes(server.datasets[HANDLE][3].archive[:1_500_000])
    # A process killed while unpacking leaves this folder, whose files must not count as the dataset's.
    (folder / "versions" / "3.partial" / "images").mkdir(parents=True)
    (folder / "versions" / "3.partial" / "images" / "half.jpg").write_bytes(b"half")
    download = fetched()
    assert "archive.zip bytes=1500000-" in requested(server)
    assert {p.relative_to(download.folder).as_posix() for p in download.folder.rglob("*") if p.is_file()} == {
        *files,
        "noise.bin",
    }
    assert not (folder / "versions" / "3.partial").exists()


def test_a_corrupt_download_is_deleted(server: KaggleServer) -> None:
    server.corrupt = True
    with pytest.raises(EnvironmentProblem, match="checksums differ"):
        fetched()
    # Without a checksum, unpacking fails; kagglehub alone would treat the corrupt file as complete.
    server.checksum = False
    with pytest.raises((EnvironmentProblem, InputError), match="cannot be unpacked"):
        fetched()
    server.corrupt = False
    assert len(list(fetched().folder.rglob("*.jpg"))) == 5


@pytest.mark.parametrize("harm", ["gone", "changed", "never finished"])
def test_missing_and_changed_files_are_downloaded_again(
    server: KaggleServer, files: dict[str, bytes], harm: str
) -> None:
    """kagglehub's own marker still declares the download complete."""
    first = fetched()
    victim = first.folder / "images" / "val" / "c_001.jpg"
    if harm == "gone":
        victim.unlink()
    elif harm == "never finished":
        # Killed between kagglehub's marker and the manifest; a file was deleted since.
        victim.unlink()
        (first.folder.parent.parent / "3.manifest.json").unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-9] + b"tampered!")
    before = len(server.requests)
    lines: list[str] = []
    kaggle._fetch.cache_clear()
    again = kaggle.fetch(f"kaggle:{HANDLE}/versions/3", lines.append)
    reason = {
        "gone": "1 of 11 files are gone",
        "changed": "1 of 11 files have changed",
        "never finished": "no manifest was written",
    }[harm]
    assert any(reason in line for line in lines), lines
    assert len(server.requests) > before
    manifest = json.loads((first.folder.parent.parent / "3.manifest.json").read_text())
    assert len(manifest["files"]) == 11
    assert (again.folder / "images/val/c_001.jpg").read_bytes() == files["images/val/c_001.jpg"]


def test_the_command_line_reports_an_error_in_one_line(server: KaggleServer, tmp_path: Path) -> None:
    server.status = 403
    outcome = run_in_process(
        "inspect", f"kaggle:{HANDLE}", cwd=tmp_path, **server.environment(tmp_path / "hub")
    )
    assert outcome.code == 3
    assert "check the handle" in complaint(outcome)
    server.status = None
    outcome = run_in_process(
        "inspect", f"kaggle:{HANDLE}", "--json", cwd=tmp_path, **server.environment(tmp_path / "hub")
    )
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["origin"] == "Kaggle owner/holes/versions/3, licence: CC BY 4.0"


def entry(
    name: str, content: bytes = b"x", *, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content) if kind == tarfile.REGTYPE else 0, kind, link
    return info, content


def tarred(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def linked(name: str, target: str) -> bytes:
    """A zip in which name is a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(info, target)
        archive.writestr("a.txt", "fine")
    return buffer.getvalue()


def decompression_bomb() -> bytes:
    """A zip of 1 MB that expands to over 1 GB."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("zeros", "w") as stream,
    ):
        for _ in range(1050):
            stream.write(bytes(1 << 20))
    return buffer.getvalue()


def false_size() -> bytes:
    """A zip whose list gives one byte for a file of a thousand."""
    raw = bytearray(zipped({"a.txt": b"y" * 1000}, zipfile.ZIP_DEFLATED))
    offset = raw.rindex(b"PK\x01\x02")
    raw[offset + 24 : offset + 28] = struct.pack("<I", 1)
    return bytes(raw)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (zipped({"../evil.txt": b"x"}), "leads out of its folder"),
        (zipped({"/etc/evil.txt": b"x"}), "leads out of its folder"),
        (zipped({"a\\..\\..\\evil.txt": b"x"}), "leads out of its folder"),
        (zipped({"C:/evil.txt": b"x"}), "leads out of its folder"),
        (tarred(entry("../../evil.txt")), "leads out of its folder"),
        (zipped({"/".join("d" * 40): b"x"}), "too deep or too long"),
        (zipped({"n" * 300: b"x"}), "too deep or too long"),
        (decompression_bomb, "more than 100 times its size"),
        (false_size(), "cannot be unpacked"),
        (zipped({"a": b"x", "a/b": b"y"}), "cannot be unpacked"),
        (zipped({"/".join(["n" * 250] * 20): b"x"}), "cannot be unpacked"),
        (b"BZh9" + bytes(200), "cannot be unpacked|not a zip or tar"),
        (b"<html>404</html>", "not a zip or tar archive"),
        (zipped({"a.txt": b"y" * 5000})[:-60], "not a zip or tar archive"),
    ],
    ids=[
        "dots",
        "absolute",
        "backslashes",
        "drive",
        "tar dots",
        "deep",
        "long",
        "bomb",
        "false size",
        "file and folder",
        "path",
        "stream",
        "page",
        "cut",
    ],
)
def test_hostile_archives_are_refused_and_leave_nothing(
    tmp_path: Path, archive: bytes | Callable[[], bytes], message: str
) -> None:
    (tmp_path / "a.zip").write_bytes(archive if isinstance(archive, bytes) else archive())
    with pytest.raises(InputError, match=message):
        unpack(tmp_path / "a.zip", tmp_path / "deep" / "er" / "out")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "a.zip"]


def test_a_million_files_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.archives.MAX_FILES", 5)
    (tmp_path / "a.zip").write_bytes(zipped({f"{i}.txt": b"" for i in range(6)}))
    with pytest.raises(InputError, match="more than 5 files"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_full_disk_is_reported_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    (tmp_path / "a.zip").write_bytes(zipped({"a.txt": b"y" * 500}))
    with pytest.raises(EnvironmentProblem, match="are free in"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "archive",
    [
        linked("shadow", "/etc/shadow"),
        tarred(entry("shadow", kind=tarfile.SYMTYPE, link="/etc/shadow"), entry("a.txt", b"fine")),
        tarred(entry("shadow", kind=tarfile.LNKTYPE, link="/etc/shadow"), entry("a.txt", b"fine")),
        tarred(entry("pipe", kind=tarfile.FIFOTYPE), entry("a.txt", b"fine")),
    ],
    ids=["zip link", "tar link", "tar hard link", "tar pipe"],
)
def test_links_and_devices_are_skipped(tmp_path: Path, archive: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(archive)
    skipped = unpack(tmp_path / "a.zip", tmp_path / "out")
    assert len(skipped) == 1
    assert "a link or device" in skipped[0]
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["a.txt"]


def test_a_hostile_kaggle_archive_is_refused_and_deleted(
    server: KaggleServer, files: dict[str, bytes], tmp_path: Path
) -> None:
    server.datasets[HANDLE][3] = Published(zipped({**files, "../../../evil.txt": b"x"}))
    with pytest.raises(InputError, match="leads out of its folder"):
        fetched()
    assert not list(tmp_path.rglob("evil.txt"))
    server.datasets[HANDLE][3] = Published(zipped(files))
    assert len(tree(fetched().folder)) == 11


def test_skipped_archive_entries_are_reported(
    server: KaggleServer, files: dict[str, bytes], tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        info = zipfile.ZipInfo("shadow")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/shadow")
    server.datasets[HANDLE][3] = Published(buffer.getvalue())
    kaggle._fetch.cache_clear()
    source = open_source(f"kaggle:{HANDLE}", cache=tmp_path)
    assert source.origin.endswith("skipped in its archive: shadow: a link or device")


def test_a_relative_cache_folder_works(
    server: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KAGGLEHUB_CACHE", "cache")
    assert fetched().folder.is_relative_to(tmp_path / "cache")
    assert (tmp_path / "cache" / "datasets" / "owner" / "holes" / "3.manifest.json").is_file()
