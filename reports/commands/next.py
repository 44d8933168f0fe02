"""`shiftscope next`: rank a pool of pictures, and datasets one might add, by what they would teach; write the lists and the hand-off."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.errors import InputError
from datasets.groups import evenly
from diagnostics.advice import BUDGET, Advice, next_pictures
from diagnostics.candidates import Candidate, compare
from diagnostics.domain import Domain
from diagnostics.embedding_shift import novelties
from diagnostics.label_free import SHOWN
from diagnostics.wording import count
from reports.export.handoff import write_handoff
from reports.files import write_text
from reports.options import Request
from reports.page.writer import inert, write_parquet
from reports.pipeline.inference import Seen, look_at_everything, with_predicted
from reports.plain import plain
from reports.progress import Reporter
from train.environment import frames_folder
from train.run import new_run_folder

# Of the clips set aside, this many pictures tell AP50 to within ten points or so (docs/proof.md, "A few labels").
TEST_PICTURES = 50


def rank_next(
    request: Request,
    pool: tuple[tuple[str | None, str], ...],
    candidates: tuple[tuple[str | None, str], ...],
    budget: int | None,
    boxes: int | None,
    out: Path,
    reporter: Reporter,
    *,
    probe: bool = False,
) -> dict[str, Any]:
    """Rank pool (or, without one, the real-world pictures) and candidates; write next.csv, test.csv, candidates.csv and hand-off/ into out.

    budget, boxes: pictures to pick, and objects that are in them where those are what costs; at most either. probe: rank candidates by short trainings, see `reports.commands.probe`.
    Raises InputError without weights, without anything to rank, and for candidates without footage to compare them with.
    """
    if request.run is None and request.weights is None:
        raise InputError("ranking compares what the detector sees: give --run DIR or --weights FILE")
    if not pool and not request.real_world:
        raise InputError("nothing to rank: give --pool SOURCE or --real-world SOURCE")
    if candidates and not request.real_world:
        raise InputError(
            "candidate datasets are compared with the footage the detector is for: give --real-world SOURCE"
        )
    if probe and not candidates:
        raise InputError("--probe tries out candidate datasets: give --candidate SOURCE")
    request = with_predicted(request, reporter.say)
    wanted = len(pool or request.real_world)
    pictures = budget or (BUDGET if boxes is None else sys.maxsize)
    seen = look_at_everything(
        replace(
            request,
            real_world=(*(pool or request.real_world), *(request.real_world if pool else ()), *candidates),
        ),
        reporter,
        # Pictures are ranked as a whole; the embeddings of their boxes would fill the memory.
        embed_detections=False,
    )
    home = next(d for d in seen.domains.values() if d.role == "in_domain")
    training = seen.domains.get("training", home)
    everything = [d for d in seen.domains.values() if d.role == "real_world"]
    chosen_from = everything[:wanted]
    footage = everything[wanted : wanted + len(request.real_world)] if pool else chosen_from
    offered = everything[len(everything) - len(candidates) :] if candidates else []
    with reporter.stage("rank", "Ranking what to add next"):
        advice = next_pictures(
            chosen_from,
            training,
            home,
            novelties(home, chosen_from),
            target=footage if pool else (),
            seed=request.seed,
            budget=pictures,
            boxes=boxes,
        )
        compared = (
            compare(
                offered,
                footage,
                training,
                home,
                set_aside=advice.aside["fingerprint"].tolist(),
                seed=request.seed,
            )
            if offered
            else []
        )
    if probe:
        # Training needs PyTorch, which nothing else here does before it is asked whether checkpoints are trusted.
        from reports.commands.probe import probe as try_out

        compared = try_out(compared, seen, footage, request.seed, reporter)
    table, test = advice.picks, test_pictures(advice)
    result = {
        "next": plain(table),
        "reserved_test_clips": list(advice.clips),
        "test": plain(test),
        "budget": budget or (BUDGET if boxes is None else None),
        "boxes": boxes,
        "objects": int(table["objects"].sum()),
        "pool": sum(len(d.pictures) for d in chosen_from),
        "candidates": [asdict(candidate) | {"other_hand": candidate.other_hand} for candidate in compared],
    }
    with reporter.stage("write", "Copying the chosen pictures"):
        result["hand_off"] = str(hand_off(out, table, chosen_from, seen))
        result["goes_on"] = (Path(result["hand_off"]).parent / "val.txt").is_file()
    write_lists(out, table, test, compared, result)
    return result


def test_pictures(advice: Advice) -> pd.DataFrame:
    """Pictures of the clips set aside, spread over them: domain, image, path, group."""
    aside = advice.aside.assign(clip=advice.aside["domain"] + "/" + advice.aside["group"])
    return evenly(aside.rename(columns={"group": "name", "clip": "group"}), TEST_PICTURES)[
        ["domain", "image", "path", "name"]
    ].rename(columns={"name": "group"})


def write_lists(
    out: Path, table: pd.DataFrame, test: pd.DataFrame, compared: Sequence[Candidate], result: dict[str, Any]
) -> None:
    """The lists as CSV, Parquet and JSON."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "next.csv", table.map(inert).to_csv(index=False))
    write_text(out / "test.csv", test.map(inert).to_csv(index=False))
    (out / "candidates.csv").unlink(missing_ok=True)
    if compared:
        frame = pd.DataFrame([asdict(candidate) for candidate in compared])
        write_text(out / "candidates.csv", frame.map(inert).to_csv(index=False))
    write_parquet(out / "next.parquet", table)
    write_text(out / "next.json", json.dumps(result, indent=1, allow_nan=False))


def hand_off(out: Path, table: pd.DataFrame, domains: Sequence[Domain], seen: Seen) -> Path:
    """The chosen pictures with draft labels, in a folder of its own: labels that somebody mended in an earlier one stay. Returns its data.yaml."""
    own = [
        o
        for o in seen.opened
        if o.role in ("training", "in_domain") and o.source.kind in {"yolo", "folder", "list"}
    ]
    old = pd.concat([o.source.images for o in own], ignore_index=True) if own else None
    return write_handoff(
        new_run_folder(out, "hand-off"), table, domains, seen.classes, SHOWN, old, frames_folder()
    )


def lines(result: dict[str, Any], out: Path) -> list[str]:
    """What to do with it, for people who stay on the terminal."""
    said = [
        f"{len(result['next'])} of {result['pool']} pictures ranked, with about {count(result['objects'], 'box', 'boxes')} to draw or mend: {out / 'next.csv'}"
    ]
    said += [f"  {c['rank']}. {c['name']}: {c['reason']}" for c in result["candidates"]]
    if len(result["candidates"]) > 1:
        by_size = [c["name"] for c in sorted(result["candidates"], key=lambda c: int(c["by_size"]))]
        said.append(
            f"By size alone the order would be {', '.join(by_size)}; drawn at random, the best stands first 1 time in {len(by_size)}."
        )
    aside = len(result["reserved_test_clips"])
    if aside:
        said.append(
            f"First label the {len(result['test'])} pictures in {out / 'test.csv'}: they come from {aside} clips set aside at random, and tell whether "
            "adding helped. Never train on those clips."
        )
    said.append(
        f"Pictures with the detector's boxes as a draft: {Path(result['hand_off']).parent} (YOLO, coco.json, cvat.xml, label-studio.json). Mend the labels, then: "
        + (
            f"shiftscope train {result['hand_off']} --model BEST.PT"
            if result["goes_on"]
            else "add them to your training pictures (where those are is not known here, or they are no YOLO dataset)"
        )
    )
    return said
