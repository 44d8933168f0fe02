"""Tables of numbers as people have them: CSV with blanks, capitals, semicolons and decimal commas, or a byte
order mark.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from datasets.errors import InputError

# Lines with more fields than the header that a process which was killed while writing may leave; more are
# columns that nobody named.
RAGGED = 2


def read_sheet(path: Path) -> pd.DataFrame:
    """Read a CSV as text.

    Parameters
    ----------
    path
        The file; UTF-8. Where its header has semicolons and no commas, it is one with decimal commas.

    Returns
    -------
    DataFrame
        Columns named as the header does, without blanks around; every value as text, "" where a row ends
        early. Lines with more fields than the header are left out.

    Raises
    ------
    InputError
        The file cannot be read, is empty, or more than RAGGED lines and a twentieth of all have more fields
        than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text (UTF-8)") from None
    first = text.lstrip().partition("\n")[0]
    semicolons = ";" in first and "," not in first
    try:
        lines = csv.reader(text.splitlines(), delimiter=";" if semicolons else ",", skipinitialspace=True)
        rows = [[field.strip() for field in row] for row in lines if any(field.strip() for field in row)]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from None
    if not rows:
        raise InputError(f"{path}: is empty")
    header, *rows = rows
    while header and not header[-1]:
        header.pop()
    rows = [_cut(row, len(header)) for row in rows]
    whole = [row for row in rows if len(row) <= len(header)]
    longer = len(rows) - len(whole)
    if longer > max(RAGGED, len(rows) / 20):
        raise InputError(
            f"{path}: {longer} of {len(rows)} rows have more fields than the header's {len(header)}: which "
            "number is which is not known; give a CSV whose header names every column"
        )
    if semicolons:
        whole = [[field.replace(",", ".") for field in row] for row in whole]
    return pd.DataFrame([row + [""] * (len(header) - len(row)) for row in whole], columns=header, dtype="str")


def _cut(row: list[str], width: int) -> list[str]:
    """A row without empty fields beyond the header: some programs end every line with a comma."""
    while len(row) > width and not row[-1]:
        row.pop()
    return row
