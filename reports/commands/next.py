"""`shiftscope next`: rank images to label and datasets to add; write the lists and the hand-off folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.containment import register_roots
from datasets.errors import InputError
from datasets.files import write_text
from datasets.groups import evenly
from datasets.pairing import enclosing_roots
from diagnostics.advice import BUDGET, Advice, next_images
from diagnostics.candidates import Candidate, compare_datasets
from diagnostics.classes import find_classes
from diagnostics.domain import Domain
from diagnostics.embedding_shift import novelties
from diagnostics.label_free import SHOWN
from diagnostics.pairs import make_pairs
from diagnostics.wording import count
from reports.export.handoff import write_handoff
from reports.options import NextOptions, ReportOptions
from reports.page.reader import read_report, written_reports
from reports.page.writer import inert, write_parquet
from reports.pipeline.inference import PredictedDomains, predict_domains, resolve_prediction_folders
from reports.pipeline.runs import load_run, report_name
from reports.plain import plain
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder
from train.run import new_run_folder

# This many labelled images measure AP50 to about ten points (docs/proof.md, "A few labels").
TEST_IMAGES = 50


@dataclass(frozen=True)
class _RankedDomains:
    """The domains of one ranking.

    predicted: all domains, with the detector
    pool: domains to pick images from
    footage: domains that the detector is for; the pool where no other pool is given
    candidates: datasets that may be added
    """

    predicted: PredictedDomains
    pool: list[Domain]
    footage: list[Domain]
    candidates: list[Domain]

    @property
    def in_domain(self) -> Domain:
        """The held-out in-domain images."""
        return self.predicted.in_domain

    @property
    def training(self) -> Domain:
        """The training images; the in-domain ones where they are not known."""
        return self.predicted.training or self.in_domain


def rank_next(options: NextOptions, reporter: Reporter) -> tuple[dict[str, Any], Path]:
    """Rank images to label and datasets to add, and write the lists and the hand-off.

    Parameters
    ----------
    options
        The detector, the sources, and how many images or boxes to pick; by default, those of the last report.
    reporter
        Shows progress.

    Returns
    -------
    dict
        The content of next.json.
    Path
        The folder with next.csv, test.csv, candidates.csv and hand-off/.

    Raises
    ------
    InputError
        There are no weights, nothing to rank, or candidates without footage to compare them with.
    """
    written = options.from_report
    if written is None and options.is_empty:
        written = next(iter(written_reports()), None)
        if written is not None:
            reporter.say(f"Ranking for the last report, {written.name}")
    if written is not None:
        record = read_report(written).record.get("options", {})
        options = options.filled_from(ReportOptions.from_record(record))
    if options.is_empty:
        raise InputError(
            f"no report in {runs_folder() / 'report'} to rank for: run 'shiftscope report' first, or give "
            "--run DIR and --real-world SOURCE"
        )
    _check_options(options)
    ranked = _predict(options, reporter)
    with reporter.stage("rank", "Ranking what to add next"):
        advice = _advise(ranked, options)
        compared = _compare_candidates(ranked, advice, options.seed)
    if options.probe:
        # It imports PyTorch, which must wait until it is decided whether checkpoints are trusted.
        from reports.commands.probe import probe as probe_candidates

        compared = probe_candidates(compared, ranked.predicted, ranked.footage, options.seed, reporter)
    folder = (options.out or runs_folder() / "next" / report_name(options)).absolute()
    result = _record(ranked, advice, compared, options)
    with reporter.stage("write", "Copying the chosen images"):
        result["hand_off"] = str(_hand_off(folder, advice.picks, ranked))
        result["weights"] = str(ranked.predicted.run.weights) if ranked.predicted.run else "BEST.PT"
        result["goes_on"] = (Path(result["hand_off"]).parent / "val.txt").is_file()
    _write_lists(folder, advice, compared, result)
    return result, folder


def _check_options(options: NextOptions) -> None:
    """Raise InputError where something that a ranking needs is missing."""
    if options.run is None and options.weights is None and options.detector is None:
        raise InputError("ranking needs the detector's embeddings: give --run DIR or --weights FILE")
    if not options.pool and not options.real_world:
        raise InputError("nothing to rank: give --pool SOURCE or --real-world SOURCE")
    if options.candidate and not options.real_world:
        raise InputError(
            "candidate datasets are compared with the footage that the detector is for: "
            "give --real-world SOURCE"
        )
    if options.probe and not options.candidate:
        raise InputError("--probe trains with candidate datasets: give --candidate SOURCE")


def _predict(options: NextOptions, reporter: Reporter) -> _RankedDomains:
    """Run the detector on all sources; pool, footage and candidates are distinguished by their order."""
    report_options = options.as_report()
    run = load_run(report_options)
    report_options = resolve_prediction_folders(report_options, run, reporter.say)
    footage = report_options.real_world
    pool = options.pool or footage
    others = footage if options.pool else ()
    predicted = predict_domains(
        replace(report_options, real_world=(*pool, *others, *options.candidate)),
        run,
        reporter,
        # Whole images are ranked; the embeddings of their detections would fill the memory.
        embed_detections=False,
    )
    domains = predicted.real_world
    in_pool = domains[: len(pool)]
    return _RankedDomains(
        predicted,
        in_pool,
        domains[len(pool) : len(pool) + len(others)] if options.pool else in_pool,
        domains[len(domains) - len(options.candidate) :] if options.candidate else [],
    )


def _advise(ranked: _RankedDomains, options: NextOptions) -> Advice:
    """The images to label next, and the clips set aside as a test set."""
    return next_images(
        ranked.pool,
        ranked.training,
        ranked.in_domain,
        novelties(ranked.in_domain, ranked.pool),
        target=() if ranked.footage is ranked.pool else ranked.footage,
        failing=_failing(ranked, options.seed),
        seed=options.seed,
        budget=options.budget or (BUDGET if options.boxes is None else sys.maxsize),
        boxes=options.boxes,
    )


def _failing(ranked: _RankedDomains, seed: int) -> dict[str, dict[str, float]]:
    """The classes that a drop hits in each labelled domain of the footage."""
    labelled = [domain for domain in (ranked.in_domain, *ranked.footage) if domain.labelled.any()]
    if len(labelled) < 2 or labelled[0] is not ranked.in_domain:
        return {}
    pairs = make_pairs(ranked.in_domain, labelled[1:], None)
    found = find_classes(labelled, ranked.in_domain, pairs, SHOWN, seed=seed)
    return {domain.name: found.failing(domain.name) for domain in labelled[1:]}


def _compare_candidates(ranked: _RankedDomains, advice: Advice, seed: int) -> list[Candidate]:
    """The candidates, best first; empty without any."""
    if not ranked.candidates:
        return []
    return compare_datasets(
        ranked.candidates,
        ranked.footage,
        ranked.training,
        ranked.in_domain,
        set_aside=advice.aside["fingerprint"].tolist(),
        seed=seed,
    )


def _record(
    ranked: _RankedDomains, advice: Advice, compared: Sequence[Candidate], options: NextOptions
) -> dict[str, Any]:
    """The content of next.json but for the hand-off."""
    return {
        "next": plain(advice.picks),
        "reserved_test_clips": list(advice.clips),
        "test": plain(test_images(advice)),
        "budget": options.budget or (BUDGET if options.boxes is None else None),
        "boxes": options.boxes,
        "annotations": int(advice.picks["annotations"].sum()),
        "labelled": _labelled(ranked, advice.picks),
        "test_labelled": _labelled(ranked, test_images(advice)),
        "pool": sum(len(domain.images) for domain in ranked.pool),
        "candidates": [asdict(c) | {"other_hand": c.other_box_rule} for c in compared],
    }


def _labelled(ranked: _RankedDomains, images: pd.DataFrame) -> int:
    """How many of some images have labels already."""
    labelled = {
        (domain.name, image) for domain in ranked.pool for image in domain.labelled_images["image"].tolist()
    }
    return sum(pair in labelled for pair in zip(images["domain"], images["image"], strict=True))


def test_images(advice: Advice) -> pd.DataFrame:
    """Images of the clips set aside, spread over the clips: domain, image, path, group."""
    aside = advice.aside.assign(clip=advice.aside["domain"] + "/" + advice.aside["group"])
    return evenly(aside.rename(columns={"group": "name", "clip": "group"}), TEST_IMAGES)[
        ["domain", "image", "path", "name"]
    ].rename(columns={"name": "group"})


def _write_lists(out: Path, advice: Advice, compared: Sequence[Candidate], result: dict[str, Any]) -> None:
    """Write the lists as CSV, Parquet and JSON."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "next.csv", advice.picks.map(inert).to_csv(index=False))
    tests = test_images(advice)
    write_text(out / "test.csv", tests.map(inert).to_csv(index=False))
    # The same as a source: a list of images, which may lead to where they lie.
    write_text(out / "test.txt", "".join(f"{path}\n" for path in tests["path"]))
    folders = sorted({Path(path).parent for path in tests["path"]})
    register_roots(out / "test.txt", enclosing_roots(folders), frames_folder())
    (out / "candidates.csv").unlink(missing_ok=True)
    if compared:
        frame = pd.DataFrame([asdict(candidate) for candidate in compared])
        write_text(out / "candidates.csv", frame.map(inert).to_csv(index=False))
    write_parquet(out / "next.parquet", advice.picks)
    write_text(out / "next.json", json.dumps(result, indent=1, allow_nan=False))


def _hand_off(out: Path, picks: pd.DataFrame, ranked: _RankedDomains) -> Path:
    """Copy the picked images with draft labels into a new folder; returns its data.yaml.

    The folder is new each time, so that labels corrected in an earlier one stay.
    """
    predicted = ranked.predicted
    own = [
        o
        for o in predicted.opened
        if o.role in ("training", "in_domain") and o.source.kind in {"yolo", "folder", "list"}
    ]
    return write_handoff(
        new_run_folder(out, "hand-off"),
        picks,
        ranked.pool,
        classes=predicted.classes,
        confidence=SHOWN,
        training_images=pd.concat([o.source.images for o in own], ignore_index=True) if own else None,
    )


def lines(result: dict[str, Any], out: Path) -> list[str]:
    """The result and the next steps, for the terminal."""
    boxes, images = count(result["annotations"], "box", "boxes"), count(len(result["next"]), "image")
    open_ = len(result["next"]) - result["labelled"]
    work = f"about {boxes} to draw or correct" if open_ else f"{boxes}, all labelled already"
    if open_ and result["labelled"]:
        work += f"; {result['labelled']} of them are labelled already"
    text = [f"{images} of {result['pool']} ranked, with {work}: {out / 'next.csv'}"]
    text += [f"  {c['rank']}. {c['name']}: {c['reason']}" for c in result["candidates"]]
    if len(result["candidates"]) > 1:
        by_size = [c["name"] for c in sorted(result["candidates"], key=lambda c: int(c["by_size"]))]
        text.append(
            f"By size alone the order would be {', '.join(by_size)}; "
            f"a random order has the best one first 1 time in {len(by_size)}."
        )
    aside = len(result["reserved_test_clips"])
    if aside:
        to_label = len(result["test"]) - result["test_labelled"]
        first = f"First label {to_label} of the" if to_label else "Keep the"
        text.append(
            f"{first} {len(result['test'])} images in {out / 'test.txt'} for testing: they come from {aside} "
            "clips set aside at random and measure whether the new labels help. Never train on those clips; "
            f"afterwards: --real-world test={out / 'test.txt'}"
        )
    else:
        text.append("No clip is set aside for testing: there are too few. Test on other footage.")
    drafts = "Images with the detections as draft labels" if open_ else "Images with their labels"
    then = "Correct the labels, then" if open_ else "Then"
    text.append(
        f"{drafts}: {Path(result['hand_off']).parent} (YOLO, coco.json, cvat.xml, label-studio.json). "
        f"{then}: "
        + (
            f"shiftscope train {result['hand_off']} --model {result['weights']}"
            if result["goes_on"] and str(result["weights"]).endswith(".pt")
            else f"train your detector on {result['hand_off']}"
            if result["goes_on"]
            else "add them to your training images "
            "(their folder is not known here, or they are not a YOLO dataset)"
        )
    )
    return text
