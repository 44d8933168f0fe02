"""Label files as text and as JSON, bounded in size; a file that cannot be read raises ValueError."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

# The largest public annotation files of one split have a few hundred megabytes.
MAX_BYTES = 1_000_000_000


def text_of(path: Path) -> str:
    """The text of a file. Raises ValueError with the reason, OSError if it cannot be opened."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"label file over {MAX_BYTES // 10**9} GB")
    content = path.read_bytes()
    # Excel's "Unicode text" and PowerShell's redirection.
    encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError("label file is not text (UTF-8)") from None


def json_of(path: Path) -> Any:
    """The content of a JSON file. Raises ValueError with the reason, OSError if it cannot be opened."""
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None


def objects_of(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a file with one JSON object a line, each with its line. Raises as `json_of` does."""
    found = []
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"line {number} is not valid JSON ({error})") from None
        if isinstance(content, dict):
            found.append((number, content))
    return found


def listed(value: Any) -> list[Any]:
    """The value if it is a list, else an empty list."""
    return value if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def whole(value: Any) -> int:
    """A number or its text as an integer, 0 if it is neither."""
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0
