"""`shiftscope forecast`: how many labels a score will take, from what a few sizes gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from datasets.errors import InputError
from diagnostics.forecast import Forecast, forecast
from diagnostics.wording import fraction

COLUMNS = ("labels", "ap50")


def read_sizes(path: Path) -> pd.DataFrame:
    """A CSV with the columns labels and ap50, one row a training. Raises InputError naming the file and the line."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from None
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise InputError(
            f"{path}: lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; one row a training: labels it was given, and the AP50 it reached"
        )
    numbers = table[list(COLUMNS)].apply(pd.to_numeric, errors="coerce")
    wrong = (
        ~np.isfinite(numbers).all(axis=1) | (numbers["labels"] < 0) | ~numbers["ap50"].between(0, 1)
    ).to_numpy()
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{path}:{line + 2}: labels {table['labels'].iloc[line]!r} and ap50 {table['ap50'].iloc[line]!r}; labels is a number from 0, ap50 a fraction from 0 to 1"
        )
    return numbers


def answer(path: Path, goal: float) -> Forecast:
    """The forecast for a goal. Raises InputError."""
    table = read_sizes(path)
    return forecast(table["labels"].to_numpy(float), table["ap50"].to_numpy(float), goal)


def line(found: Forecast) -> str:
    """The answer in one sentence."""
    goal = f"AP50 {fraction(found.goal)}"
    if found.reached:
        return f"{goal} was reached with {found.low:,} labels."
    if found.low is not None:
        return f"{goal} will take between {found.low:,} and {found.high:,} labels, if the curve goes on as it began."
    return f"{goal}: {found.note}."
