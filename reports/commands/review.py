"""`shiftscope review`: what a detector does on footage without labels, from clicks on some dozen frames."""

from __future__ import annotations

import contextlib
import os
import sys
import webbrowser
from pathlib import Path
from typing import Any

from datasets.answers import Review, read_answers, read_review, without_judgements
from datasets.errors import EnvironmentProblem, InputError
from datasets.label_answers import read_label_answers, read_label_review
from diagnostics.domain import Domain
from diagnostics.label_free import SHOWN
from diagnostics.wording import count, fraction, interval, percent, points, points_interval
from reports.options import ReviewOptions
from reports.page.reader import WrittenReport, find_report, read_report
from reports.pipeline.label_reviews import label_review_path, new_label_review
from reports.pipeline.reviews import new_review, review_path
from reports.progress import Reporter
from reports.review.labels import LabelSession
from reports.review.server import create_server
from reports.review.session import Session


def open_session(options: ReviewOptions) -> Session | LabelSession:
    """The review of a report's domain, or of its labels, begun or gone on with; answers given as a file are
    added.

    Raises
    ------
    InputError
        There is no such report or domain, or the answers do not fit it.
    """
    report = read_report(find_report(options.report))
    if options.labels:
        return _open_labels(options, report)
    in_domain = next(domain for domain in report.domains if domain.role == "in_domain")
    domain = _choose_domain(report, options.domain)
    path = review_path(report.folder.name, domain)
    session = Session(
        in_domain=in_domain,
        domain=domain,
        confidence=report.record.get("transfer", {}).get("confidence") or SHOWN,
        budget=options.budget,
        path=path,
        review=_open_review(path, report.folder.name, domain, options.seed),
    )
    if options.answers is not None and not options.plan:
        try:
            session.add(read_answers(options.answers))
        except InputError as problem:
            text = str(problem)
            prefix = f"{options.answers}: "
            raise InputError(text if text.startswith(prefix) else prefix + text) from None
    return session


def _open_labels(options: ReviewOptions, report: WrittenReport) -> LabelSession:
    """The review of a domain's labels. Raises InputError as `open_session` does."""
    domain = _choose_domain(report, options.domain, labelled=True)
    if not domain.labelled.any():
        raise InputError(f"{domain.name} has no labels to review; without --labels its frames are reviewed")
    path = label_review_path(domain)
    review = (
        read_label_review(path)
        if path.exists()
        else new_label_review(report.folder.name, domain, seed=options.seed)
    )
    session = LabelSession(domain, options.budget, path, review)
    if options.answers is not None and not options.plan:
        try:
            session.add(read_label_answers(options.answers))
        except InputError as problem:
            text = str(problem)
            prefix = f"{options.answers}: "
            raise InputError(text if text.startswith(prefix) else prefix + text) from None
    return session


def serve(session: Session | LabelSession, port: int, reporter: Reporter) -> None:
    """Serve the page until Ctrl-C. Raises EnvironmentProblem where no port can be had."""
    try:
        server = create_server(session, port)
    except OSError:
        reporter.say(f"port {port} is in use; another port is used")
        try:
            server = create_server(session, 0)
        except OSError as error:
            raise EnvironmentProblem(f"no page can be served on 127.0.0.1 ({error.strerror})") from None
    url = f"http://127.0.0.1:{server.server_port}/"
    what = "label" if isinstance(session, LabelSession) else "frame"
    reporter.say(
        f"Review of {session.domain.name}: {count(session.count, what)}, about five seconds each; "
        f"{session.answered} answered. Answers are saved in {session.path}"
    )
    reporter.say(f"Page: {url}  (Ctrl-C ends it)")
    if os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32"):
        webbrowser.open(url)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text."""
    if "share" in result:
        return _label_lines(result)
    head = f"{result['domain']}: {count(result['answers'], 'frame')} answered of {result['frames']}"
    if result["waiting"]:
        head += f" ({count(result['waiting'], 'more answer')} not counted: a frame before is unanswered)"
    if result["ap50_points"] is None:
        return [f"{head}. No estimate: {result['note']}."]
    text = [
        f"{head}, {count(result['objects'], 'object')}.",
        f"  AP by points {fraction(result['ap50_points'])}, 95 % interval "
        f"{interval(result['low'], result['high'])}",
        f"  precision {fraction(result['precision'])} {interval(*result['precision_interval'])}, recall "
        f"{fraction(result['recall'])} {interval(*result['recall_interval'])} at confidence "
        f"{fraction(result['confidence'])}",
    ]
    in_domain, drop = result["in_domain"], result["drop"]
    if in_domain["ap50_points"] is not None:
        text.append(
            f"  {in_domain['domain']}: AP by points {fraction(in_domain['ap50_points'])}; drop "
            f"{points(drop['value'])}, {points_interval(drop['low'], drop['high'], '')}"
        )
    return [*text, "The next 'shiftscope report' on these images uses the answers."]


def _label_lines(result: dict[str, Any]) -> list[str]:
    """The result of a review of labels as text."""
    head = (
        f"{result['domain']}: {count(result['answers'], 'label')} judged, {result['wrong']} wrong or left out"
    )
    if result["waiting"]:
        head += f" ({count(result['waiting'], 'more answer')} not counted: a label before is unanswered)"
    if result["share"] is None:
        return [f"{head}. No estimate: {result['note']}."]
    share, low, high = result["share"]
    return [
        f"{head}.",
        f"  of {count(result['annotations'], 'annotation')}, {percent(share)} are wrong or left out "
        f"(95 % interval {percent(low)} to {percent(high)})",
        "The next 'shiftscope report' on these labels uses the answers.",
    ]


def _choose_domain(report: WrittenReport, name: str | None, *, labelled: bool = False) -> Domain:
    """The domain to review, by default one without labels; labelled: with them. Raises InputError where the
    report has no such real-world domain.
    """
    real_world = {domain.name: domain for domain in report.domains if domain.role == "real_world"}
    if not real_world:
        raise InputError(f"{report.folder}: the report has no real-world domain; write one with --real-world")
    if name is not None:
        if name not in real_world:
            raise InputError(
                f"--domain {name}: the report has no such real-world domain; it has {', '.join(real_world)}"
            )
        return real_world[name]
    focus = real_world.get(report.record["verdict"].get("domain"))
    if labelled and focus is not None and focus.labelled.any():
        return focus
    fitting = (domain for domain in real_world.values() if domain.labelled.any() == labelled)
    return next(fitting, None) or focus or next(iter(real_world.values()))


def _open_review(path: Path, report: str, domain: Domain, seed: int) -> Review:
    """The review that was begun, or a new one where there is none. Raises InputError where it does
    not fit.
    """
    fresh = new_review(report, domain, seed=seed)
    if not path.exists():
        return fresh
    review = read_review(path)
    if {(f.image, f.path) for f in review.frames} != {(f.image, f.path) for f in fresh.frames}:
        raise InputError(f"{path}: is a review of other images; move the file elsewhere to begin anew")
    return review if review.detections == fresh.detections else without_judgements(review, fresh.detections)
