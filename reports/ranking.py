"""`shiftscope next`: rank a pool of pictures by what they would add to training, and write the list."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets.errors import InputError
from reports.atomic import write_text
from reports.findings import next_pictures, novelties
from reports.page import inert, write_parquet
from reports.pipeline import Request, look_at_everything
from reports.progress import Reporter
from reports.record import plain


def rank_next(
    request: Request, pool: tuple[tuple[str | None, str], ...], budget: int, out: Path, reporter: Reporter
) -> dict[str, Any]:
    """Rank pool (or, without one, the real-world pictures) and write next.csv, next.parquet and next.json into out. Raises InputError."""
    if request.run is None and request.weights is None:
        raise InputError("ranking compares what the detector sees: give --run DIR or --weights FILE")
    request = replace(request, real_world=pool or request.real_world)
    if not request.real_world:
        raise InputError("nothing to rank: give --pool SOURCE or --real-world SOURCE")
    seen = look_at_everything(request, reporter)
    home = next(d for d in seen.domains.values() if d.role == "in_domain")
    away = [d for d in seen.domains.values() if d.role == "real_world"]
    with reporter.stage("rank", "Ranking what to add next"):
        table, reserved = next_pictures(
            away, seen.domains.get("training", home), novelties(home, away), seed=request.seed, budget=budget
        )
    result = {
        "next": plain(table),
        "reserved_test_clips": [str(g) for g in reserved],
        "budget": budget,
        "pool": sum(len(d.pictures) for d in away),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "next.csv", table.map(inert).to_csv(index=False))
    write_parquet(out / "next.parquet", table)
    write_text(out / "next.json", json.dumps(result, indent=1, allow_nan=False))
    return result
