"""Reports over time: whether what a detector gives on new footage has left the range of what it gave
before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

# Accepted chance of an alarm where nothing has changed, of each new report of one domain.
FALSE_ALARM = 0.05
# Of a new value and n earlier ones, exchangeable, the new one is the most extreme with probability 1 / (n +
# 1): so many reports it takes until that is FALSE_ALARM. It is a conformal p-value (Vovk, Gammerman and
# Shafer 2005, section 2.2), which assumes nothing about how the values are distributed.
MIN_EARLIER = round(1 / FALSE_ALARM) - 1
# Earlier reports that a new one is compared with, the last ones: footage changes with the seasons.
WINDOW = 99
# What is watched, the first that a report has; sign: 1 where a high value is the bad one.
MEASURES = {"ap50": -1, "estimated_ap50": -1, "shift": 1}
# One series: reports of one detector at one size on footage of one name.
SERIES = ["detector", "imgsz", "domain"]
COLUMNS = ("measure", "value", "earlier", "p", "alarm")


def rank_p(values: Sequence[float], sign: int) -> list[tuple[int, float]]:
    """How extreme each value is among those before it.

    Parameters
    ----------
    values
        In order of time.
    sign
        1 where high values are extreme, -1 where low ones are.

    Returns
    -------
    list of (int, float)
        Number of earlier values compared, and the share of them and the value itself that are as extreme or
        more; NaN below MIN_EARLIER.
    """
    signed = sign * np.asarray(values, float)
    result = []
    for i, value in enumerate(signed):
        earlier = signed[max(0, i - WINDOW) : i]
        p = (1 + int((earlier >= value).sum())) / (len(earlier) + 1)
        result.append((len(earlier), p if len(earlier) >= MIN_EARLIER else float("nan")))
    return result


def watch(rows: pd.DataFrame) -> pd.DataFrame:
    """Watch every series of reports.

    Parameters
    ----------
    rows : DataFrame
        One row a domain of a report: created, detector, imgsz, domain, and the MEASURES, NaN where a report
        has none.

    Returns
    -------
    DataFrame
        COLUMNS with the index of rows: what is watched, its value, the number of earlier values, how extreme
        it is among them, and whether that is an alarm.
    """
    watched = pd.DataFrame(
        {"measure": "", "value": np.nan, "earlier": 0, "p": np.nan, "alarm": False}, index=rows.index
    )
    for name in reversed(MEASURES):
        has = rows[name].notna()
        watched.loc[has, "measure"] = name
        watched.loc[has, "value"] = rows.loc[has, name].astype(float)
    keys = [rows[column].fillna("").astype(str) for column in SERIES]
    for (measure, *_), part in watched.groupby([watched["measure"], *keys], sort=False):
        if not measure:
            continue
        order = rows.loc[part.index, "created"].sort_values(kind="stable").index
        for index, (earlier, p) in zip(
            order, rank_p(watched.loc[order, "value"].tolist(), MEASURES[str(measure)]), strict=True
        ):
            watched.loc[index, ["earlier", "p", "alarm"]] = earlier, p, bool(p <= FALSE_ALARM)
    return watched.astype({"earlier": int, "alarm": bool})[list(COLUMNS)]
