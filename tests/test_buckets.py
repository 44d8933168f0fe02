"""Sources in an S3 bucket, through pyarrow's own client against a local service: fetched once, refreshed,
resumed, and each failure in one line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets import buckets
from datasets.errors import EnvironmentProblem, InputError
from datasets.naming import domain_name
from datasets.source import open_source
from reports.options import ReportOptions
from tests.conftest import complaint, run_in_process
from tests.s3_server import BUCKET, S3Server
from tests.test_sources import dataset


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = dataset(tmp_path_factory.mktemp("bucket") / "holes")
    found = {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
    return {f"roads/holes/{name}": content for name, content in found.items()} | {
        "roads/holes/best.pt": b"a checkpoint",
        "roads/other.jpg": b"not asked for",
    }


@pytest.fixture
def server(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("SHIFTSCOPE_S3", str(tmp_path / "s3"))
    with S3Server(dict(files)) as running:
        buckets._fetch.cache_clear()
        yield running


def fetched(spec: str, said: list[str] | None = None) -> Path:
    """What an address names, fetched as in a new process."""
    buckets._fetch.cache_clear()
    return buckets.fetch(spec, (said if said is not None else []).append).path


def test_a_folder_of_a_bucket_opens_as_the_same_folder_on_disk(
    server: S3Server, files: dict[str, bytes], tmp_path: Path
) -> None:
    local = tmp_path / "local"
    for key, content in files.items():
        (local / key).parent.mkdir(parents=True, exist_ok=True)
        (local / key).write_bytes(content)
    expected = open_source(str(local / "roads" / "holes"), cache=tmp_path)
    said: list[str] = []
    source = open_source(server.address("roads/holes"), cache=tmp_path, say=said.append)
    plain = ["width", "height", "split", "group", "labelled"]
    assert source.images[plain].equals(expected.images[plain])
    boxes = ["label", "x1", "y1", "x2", "y2"]
    assert source.annotations[boxes].equals(expected.annotations[boxes])
    assert source.origin == f"fetched from s3://{BUCKET}/roads/holes"
    # Neither the checkpoint below it nor what lies beside it.
    assert server.fetched == [
        key for key in sorted(files) if key not in ("roads/holes/best.pt", "roads/other.jpg")
    ]
    assert f"fetching {len(server.fetched)} of {len(server.fetched)} files" in said[0]


def test_only_what_changed_is_fetched_again_and_what_is_gone_goes(
    server: S3Server, files: dict[str, bytes]
) -> None:
    folder = fetched(server.address("roads/holes"))
    images = [key for key in files if key.endswith(".jpg") and key.startswith("roads/holes")]
    server.requests.clear()
    said: list[str] = []
    assert fetched(server.address("roads/holes"), said) == folder
    assert (server.fetched, said) == ([], [])
    server.modified[images[0]] = 1_750_000_777
    server.files[images[1]] += b"longer"
    del server.files[images[2]]
    mine = folder / "notes of mine.txt"
    mine.write_text("kept")
    fetched(server.address("roads/holes"))
    assert server.fetched == sorted(images[:2])
    root = folder.parents[1]
    assert (root / images[1]).read_bytes() == server.files[images[1]]
    assert not (root / images[2]).exists()
    assert mine.exists()


@pytest.mark.slow
def test_a_broken_download_leaves_no_half_file_and_goes_on(
    server: S3Server, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "AT_ONCE", 1)
    wanted = [key for key in sorted(files) if key.startswith("roads/holes/") and not key.endswith(".pt")]
    server.break_at = wanted[len(wanted) // 2]
    with pytest.raises(EnvironmentProblem, match="run the same command again"):
        fetched(server.address("roads/holes"))
    broken, server.break_at = server.break_at, ""
    before = set(server.fetched) - {broken}
    assert before
    server.requests.clear()
    folder = fetched(server.address("roads/holes"))
    assert broken in server.fetched
    assert not before & set(server.fetched)
    assert {p.relative_to(folder.parents[1]).as_posix() for p in folder.rglob("*") if p.is_file()} == set(
        wanted
    )


def test_without_a_connection_what_was_fetched_is_used(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.address("roads/holes")
    folder = fetched(address)

    def unreachable(*_: object) -> None:
        raise OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7")

    monkeypatch.setattr(buckets, "_listed", unreachable)
    said: list[str] = []
    assert fetched(address, said) == folder
    assert "no connection; using what was fetched before" in said[0]
    with pytest.raises(EnvironmentProblem, match="cannot be reached; check the connection"):
        fetched(server.address("roads"))


def test_a_single_image_is_fetched_alone(server: S3Server, files: dict[str, bytes], tmp_path: Path) -> None:
    key = next(key for key in files if key.startswith("roads/holes") and key.endswith(".jpg"))
    source = open_source(server.address(key), cache=tmp_path)
    assert (len(source.images), server.fetched) == (1, [key])
    with pytest.raises(InputError, match="give the folder that holds both"):
        fetched(server.address(next(key for key in files if key.endswith(".yaml"))))


@pytest.mark.parametrize(
    ("key", "bucket", "refuse", "error", "expected"),
    [
        ("nothing/here", BUCKET, "", InputError, "the bucket has no such folder or file"),
        ("roads", "nowhere", "", InputError, "there is no such bucket"),
        ("roads", BUCKET, "AccessDenied", EnvironmentProblem, "access is refused; give credentials"),
        ("roads/../..", BUCKET, "", InputError, "not a name of a folder or file"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_with_a_next_step(
    server: S3Server, key: str, bucket: str, refuse: str, error: type[Exception], expected: str
) -> None:
    server.refuse = refuse
    with pytest.raises(error, match=expected) as raised:
        fetched(server.address(key, bucket))
    assert "\n" not in str(raised.value)


def test_an_unknown_setting_of_an_address_is_one_line(server: S3Server) -> None:
    with pytest.raises(InputError, match=r"regio.*write s3://BUCKET/FOLDER") as raised:
        fetched(f"{server.address('roads')}&regio=eu-west-1")
    assert "\n" not in str(raised.value)


def test_names_that_differ_in_a_blank_are_two_folders(server: S3Server) -> None:
    server.files |= {"set a/1.jpg": b"one", "set_a/2.jpg": b"two"}
    first = fetched(server.address("set a"))
    second = fetched(server.address("set_a"))
    assert [path.name for path in first.iterdir()] == ["1.jpg"]
    assert [path.name for path in second.iterdir()] == ["2.jpg"]


def test_keys_in_an_address_are_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="credentials in an address") as raised:
        buckets.fetch("s3://AKIA123:geheim@bucket/x")
    assert "geheim" not in str(raised.value)
    assert "AKIA" not in str(raised.value)
    assert "AWS_PROFILE" in complaint(run_in_process("inspect", "s3://AKIA123:geheim@bucket/x", cwd=tmp_path))


def test_a_key_that_leads_out_of_its_folder_is_left_out(server: S3Server, tmp_path: Path) -> None:
    server.files["roads/holes/../../../../out.jpg"] = b"x"
    folder = fetched(server.address("roads/holes"))
    assert not [key for key in server.fetched if ".." in key]
    assert all(path.is_relative_to(folder) for path in folder.rglob("*"))
    assert not list(tmp_path.rglob("out.jpg"))


def test_too_little_disk_is_said_before_anything_is_fetched(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "KEPT_FREE", 1 << 60)
    with pytest.raises(EnvironmentProblem, match="set SHIFTSCOPE_S3"):
        fetched(server.address("roads/holes"))
    assert server.fetched == []


def test_an_address_survives_the_record_of_a_report_and_names_its_domain(server: S3Server) -> None:
    address = server.address("roads/holes")
    record = ReportOptions(weights=Path("best.pt"), real_world=((None, address),)).as_record()
    assert record["real_world"] == [[None, address]]
    assert ReportOptions.from_record(record).real_world == ((None, address),)
    assert domain_name(address) == "holes"
    assert domain_name("s3://anonymous@footage?region=eu-west-1") == BUCKET
