"""Drafts: a file or folder is complete or absent, also if writing fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.files import SUFFIX, draft_file, draft_folder, write_bytes, write_text


def test_text_and_bytes_replace_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("first", "é\udcff"):
        write_text(path, text)
    assert path.read_bytes() == "é\\udcff".encode()
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_earlier_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "earlier")

    def interrupt() -> None:
        with draft_file(path) as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_complete(tmp_path: Path) -> None:
    folder = tmp_path / "below" / "v1.5"
    # The draft of a process that was killed is deleted.
    (folder.parent / f"v1.5{SUFFIX}" / "old").mkdir(parents=True)
    with draft_folder(folder) as draft:
        assert list(draft.iterdir()) == []
        (draft / "a.txt").write_text("a")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    assert list(folder.parent.iterdir()) == [folder]


def test_an_existing_folder_is_replaced_only_if_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "earlier.txt").touch()
    with pytest.raises(OSError, match="folder"), draft_folder(folder) as draft:
        (draft / "new.txt").touch()
    with pytest.raises(ZeroDivisionError), draft_folder(folder, overwrite=True):
        _ = 1 / 0
    assert [path.name for path in folder.iterdir()] == ["earlier.txt"]
    assert list(tmp_path.iterdir()) == [folder]
    with draft_folder(folder, overwrite=True) as draft:
        (draft / "new.txt").touch()
    assert [path.name for path in folder.iterdir()] == ["new.txt"]
