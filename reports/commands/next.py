"""`shiftscope next`: rank a pool of images, and datasets one might add, by what they would teach; write the lists and the hand-off."""

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
from diagnostics.advice import BUDGET, Advice, next_images
from diagnostics.candidates import Candidate, compare
from diagnostics.domain import Domain
from diagnostics.embedding_shift import novelties
from diagnostics.label_free import SHOWN
from diagnostics.wording import count
from reports.export.handoff import write_handoff
from reports.files import write_text
from reports.options import ReportOptions
from reports.page.writer import inert, write_parquet
from reports.pipeline.inference import PredictedDomains, predict_domains, resolve_prediction_folders
from reports.plain import plain
from reports.progress import Reporter
from train.environment import frames_folder
from train.run import new_run_folder

# Of the clips set aside, this many images tell AP50 to within ten points or so (docs/proof.md, "A few labels").
TEST_IMAGES = 50


def rank_next(
    options: ReportOptions,
    pool: tuple[tuple[str | None, str], ...],
    candidates: tuple[tuple[str | None, str], ...],
    budget: int | None,
    boxes: int | None,
    out: Path,
    reporter: Reporter,
    *,
    probe: bool = False,
) -> dict[str, Any]:
    """Rank pool (or, without one, the real-world images) and candidates; write next.csv, test.csv, candidates.csv and hand-off/ into out.

    budget, boxes: images to pick, and objects that are in them where those are what costs; at most either. probe: rank candidates by short trainings, see `reports.commands.probe`.
    Raises InputError without weights, without anything to rank, and for candidates without footage to compare them with.
    """
    if options.run is None and options.weights is None:
        raise InputError("ranking compares what the detector sees: give --run DIR or --weights FILE")
    if not pool and not options.real_world:
        raise InputError("nothing to rank: give --pool SOURCE or --real-world SOURCE")
    if candidates and not options.real_world:
        raise InputError(
            "candidate datasets are compared with the footage the detector is for: give --real-world SOURCE"
        )
    if probe and not candidates:
        raise InputError("--probe tries out candidate datasets: give --candidate SOURCE")
    options = resolve_prediction_folders(options, reporter.say)
    wanted = len(pool or options.real_world)
    images = budget or (BUDGET if boxes is None else sys.maxsize)
    predicted = predict_domains(
        replace(
            options,
            real_world=(*(pool or options.real_world), *(options.real_world if pool else ()), *candidates),
        ),
        reporter,
        # Images are ranked as a whole; the embeddings of their boxes would fill the memory.
        embed_detections=False,
    )
    in_domain = next(d for d in predicted.domains.values() if d.role == "in_domain")
    training = predicted.domains.get("training", in_domain)
    everything = [d for d in predicted.domains.values() if d.role == "real_world"]
    chosen_from = everything[:wanted]
    footage = everything[wanted : wanted + len(options.real_world)] if pool else chosen_from
    offered = everything[len(everything) - len(candidates) :] if candidates else []
    with reporter.stage("rank", "Ranking what to add next"):
        advice = next_images(
            chosen_from,
            training,
            in_domain,
            novelties(in_domain, chosen_from),
            target=footage if pool else (),
            seed=options.seed,
            budget=images,
            boxes=boxes,
        )
        compared = (
            compare(
                offered,
                footage,
                training,
                in_domain,
                set_aside=advice.aside["fingerprint"].tolist(),
                seed=options.seed,
            )
            if offered
            else []
        )
    if probe:
        # Training needs PyTorch, which nothing else here does before it is asked whether checkpoints are trusted.
        from reports.commands.probe import probe as try_out

        compared = try_out(compared, predicted, footage, options.seed, reporter)
    table, test = advice.picks, test_images(advice)
    result = {
        "next": plain(table),
        "reserved_test_clips": list(advice.clips),
        "test": plain(test),
        "budget": budget or (BUDGET if boxes is None else None),
        "boxes": boxes,
        "annotations": int(table["annotations"].sum()),
        "pool": sum(len(d.images) for d in chosen_from),
        "candidates": [asdict(candidate) | {"other_hand": candidate.other_hand} for candidate in compared],
    }
    with reporter.stage("write", "Copying the chosen images"):
        result["hand_off"] = str(_hand_off(out, table, chosen_from, predicted))
        result["goes_on"] = (Path(result["hand_off"]).parent / "val.txt").is_file()
    _write_lists(out, table, test, compared, result)
    return result


def test_images(advice: Advice) -> pd.DataFrame:
    """Images of the clips set aside, spread over them: domain, image, path, group."""
    aside = advice.aside.assign(clip=advice.aside["domain"] + "/" + advice.aside["group"])
    return evenly(aside.rename(columns={"group": "name", "clip": "group"}), TEST_IMAGES)[
        ["domain", "image", "path", "name"]
    ].rename(columns={"name": "group"})


def _write_lists(
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


def _hand_off(out: Path, table: pd.DataFrame, domains: Sequence[Domain], predicted: PredictedDomains) -> Path:
    """The chosen images with draft labels, in a folder of its own: labels that somebody repaired in an earlier one stay. Returns its data.yaml."""
    own = [
        o
        for o in predicted.opened
        if o.role in ("training", "in_domain") and o.source.kind in {"yolo", "folder", "list"}
    ]
    old = pd.concat([o.source.images for o in own], ignore_index=True) if own else None
    return write_handoff(
        new_run_folder(out, "hand-off"), table, domains, predicted.classes, SHOWN, old, frames_folder()
    )


def lines(result: dict[str, Any], out: Path) -> list[str]:
    """What to do with it, for people who stay on the terminal."""
    said = [
        f"{len(result['next'])} of {result['pool']} images ranked, with about {count(result['annotations'], 'box', 'boxes')} to draw or mend: {out / 'next.csv'}"
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
            f"First label the {len(result['test'])} images in {out / 'test.csv'}: they come from {aside} clips set aside at random, and tell whether "
            "adding helped. Never train on those clips."
        )
    said.append(
        f"Images with the detector's boxes as a draft: {Path(result['hand_off']).parent} (YOLO, coco.json, cvat.xml, label-studio.json). Mend the labels, then: "
        + (
            f"shiftscope train {result['hand_off']} --model BEST.PT"
            if result["goes_on"]
            else "add them to your training images (where those are is not known here, or they are no YOLO dataset)"
        )
    )
    return said
