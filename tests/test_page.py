"""The page as its readers use it, in a real browser: tables, filters, whole images, the map, the slider,
print, and axe's rules. What is shown is compared with report.json and the tables beside it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from datasets.files import write_text
from tests.conftest import MainJob, opened
from tests.large_report import write_large_report

VISIBLE = ".card:not(.out)"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Pixels of A4 less its margins at 96 to the inch.
PAPER = 718


def table(job: MainJob, name: str) -> pd.DataFrame:
    return pd.read_parquet(job.folder / "tables" / f"{name}.parquet")


def column(page: Page, name: str, number: int) -> list[str]:
    return [
        row.locator("td").nth(number).inner_text()
        for row in page.locator(f"[data-test={name}] tbody tr").all()
    ]


def test_a_heading_sorts_its_column(browser: Browser, job: MainJob) -> None:
    page, trouble = opened(browser, job, width=1280)
    page.locator("details:has([data-test=slices]) > summary").click()
    heading = page.locator("[data-test=slices] th", has_text="annotations")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    numbers = [int(text.replace(",", "")) for text in column(page, "slices", 3)]
    assert numbers == sorted(numbers, reverse=True)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [int(text.replace(",", "")) for text in column(page, "slices", 3)] == sorted(numbers)
    # What cannot be measured comes last, whichever way.
    ap50 = page.locator("[data-test=slices] th", has_text="AP50").locator("button")
    for _ in range(2):
        ap50.click()
        measured = [text != "\u2013" for text in column(page, "slices", 5)]
        assert measured == sorted(measured, reverse=True)
    assert trouble == []


def test_long_tables_can_be_filtered(browser: Browser, job: MainJob) -> None:
    page, _ = opened(browser, job, width=1280)
    page.locator("details:has([data-test=slices]) > summary").click()
    before = page.locator("[data-test=slices] tbody tr").count()
    page.locator("details:has([data-test=slices]) input[type=search]").fill("drone third")
    rows = [row.inner_text() for row in page.locator("[data-test=slices] tbody tr:visible").all()]
    assert 0 < len(rows) < before
    assert all("drone" in row and "third" in row for row in rows)


def test_the_gallery_is_filtered_by_kind_and_slice(browser: Browser, job: MainJob) -> None:
    page, trouble = opened(browser, job, width=1280)
    cards = job.record["gallery"]
    assert page.locator(VISIBLE).count() == len(cards)
    kinds = {card["kind"] for card in cards}
    for kind in sorted(kinds):
        if len(kinds) > 1:
            page.locator("#gallery-filters [name=kind]").select_option(kind)
        assert page.locator(VISIBLE).count() == sum(card["kind"] == kind for card in cards)
    page.locator("#gallery-filters button[type=reset]").click()
    # Which box lies where, from the record and the images alone.
    heights = table(job, "images").set_index(["domain", "image"])["height"]
    labelled = table(job, "images").groupby("domain")["labelled"].any()
    lower = sum(
        (card["box"][1] + card["box"][3]) / 2 / heights[card["domain"], card["image"]] >= 2 / 3
        for card in cards
        if labelled[card["domain"]]
    )
    page.locator("#gallery-filters [name=slice]").select_option(label="annotations in the lower third")
    assert page.locator(VISIBLE).count() == lower > 0
    assert page.locator("#gallery-count").inner_text() == f"{lower} of {len(cards)} cards"
    assert trouble == []


def test_the_slider_moves_numbers_curves_and_cards(browser: Browser, job: MainJob) -> None:
    page, _ = opened(browser, job, width=1280)
    cards = job.record["gallery"]
    assert page.locator(VISIBLE).count() == len(cards), "nothing is hidden at the start"
    page.locator("#confidence").fill("0.5")
    for entry in job.record["sweep"]:
        point = min(entry["points"], key=lambda p: abs(p["confidence"] - 0.5))
        cells = page.locator(f"[data-sweep={entry['domain']}] [data-column]").all_inner_texts()
        expected = [point[k] for k in ("precision", "recall", "f1", "false_positives_per_image")]
        assert cells == ["\u2013" if v is None else f"{v:.2f}" if v < 10 else f"{v:.1f}" for v in expected]
    low = sum(1 for card in cards if card["confidence"] is not None and card["confidence"] < 0.5)
    assert page.locator(".card.out").count() == low
    # The line in the curves stands at a half, between the two ends of the axis.
    middle = page.evaluate(
        """() => ["0", "at", "1"].map(end => document.getElementById("sweep-f1-" + end).getBoundingClientRect().x)"""
    )
    assert middle[1] == pytest.approx((middle[0] + middle[2]) / 2, abs=1)
    page.locator("#confidence").fill("0.01")
    assert page.locator(".card.out").count() == sum(1 for c in cards if (c["confidence"] or 1) < 0.01)


def test_the_threshold_for_a_recall(browser: Browser, job: MainJob) -> None:
    page, _ = opened(browser, job, width=1280)
    page.locator("#wanted-recall").fill("30")
    answer = page.locator("#recall-thresholds").inner_text()
    for entry in job.record["sweep"]:
        enough = [p for p in entry["points"] if p["recall"] is not None and p["recall"] >= 0.3]
        highest = max((p["confidence"] for p in enough), default=0.0)
        level = f"{highest:.3f}" if highest < 0.1 else f"{highest:.2f}"
        assert f"{entry['domain']} {f'{level} (precision' if enough else 'none'}" in answer
    page.locator("#wanted-recall").fill("0")
    assert "from 1 to 100" in page.locator("#recall-thresholds").inner_text()


def test_a_name_in_a_table_opens_its_images(browser: Browser, job: MainJob) -> None:
    page, _ = opened(browser, job, width=1280)
    page.locator("[data-test=domains] .opens", has_text="drone").click()
    shown = [card.get_attribute("data-of") for card in page.locator(VISIBLE).all()]
    assert set(shown) == {"drone"}
    assert len(shown) == sum(card["domain"] == "drone" for card in job.record["gallery"])
    top = page.evaluate("document.getElementById('gallery').getBoundingClientRect().top")
    assert 0 <= top < 200


def test_a_card_opens_the_whole_image_with_every_box(browser: Browser, job: MainJob) -> None:
    page, trouble = opened(browser, job, width=1280)
    first = page.locator(VISIBLE).first
    first.locator(".shot").click()
    view = page.locator("#full-view")
    assert view.is_visible()
    name = page.locator("#full-name").inner_text().rpartition(" in ")[2]
    images = table(job, "annotations")
    domain = first.get_attribute("data-of")
    annotations = images[(images["domain"] == domain) & images["image"].str.endswith(name)]
    detections = table(job, "detections")
    detections = detections[(detections["domain"] == domain) & detections["image"].str.endswith(name)]
    shown = min(100, int((detections["confidence"] >= 0.05).sum()))
    drawn = page.locator("#full-image path")
    assert drawn.count() == len(annotations) + shown
    labelled = page.locator("#full-image path.annotation, #full-image path.missed")
    assert labelled.count() == len(annotations)
    page.keyboard.press("d")
    assert drawn.count() == len(annotations)
    page.keyboard.press("a")
    assert drawn.count() == 0
    before = page.locator("#full-words").inner_text()
    page.keyboard.press("ArrowRight")
    after = page.locator("#full-words").inner_text()
    assert (before[:5], after[:5]) == ("1 of ", "2 of ")
    page.keyboard.press("Escape")
    assert view.is_hidden()
    assert page.evaluate("document.activeElement.closest('.card').dataset.view") == page.locator(VISIBLE).nth(
        1
    ).get_attribute("data-view")
    assert trouble == []


def test_boxes_lie_where_they_belong(browser: Browser, job: MainJob) -> None:
    page, _ = opened(browser, job, width=1280)
    card = next(c for c in job.record["gallery"] if c["kind"] != "missed")
    at = job.record["gallery"].index(card)
    size = table(job, "images").set_index(["domain", "image"]).loc[(card["domain"], card["image"])]
    numbers = [c.get_attribute("data-view") for c in page.locator(VISIBLE).all()]
    assert len(numbers) > at
    views = page.evaluate("JSON.parse(document.getElementById('views-data').textContent)")
    view = next(v for v in views if v["domain"] == card["domain"] and card["image"].endswith(v["name"]))
    scale = view["width"] / size["width"]
    expected = [value * scale for value in card["box"]]
    boxes = []
    for kind, path, _, confidence in view["boxes"]:
        numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
        xs, ys = numbers[::2], numbers[1::2]
        boxes.append((kind, [min(xs), min(ys), max(xs), max(ys)], confidence))
    assert any(
        kind == card["kind"]
        and box == pytest.approx(expected, abs=0.11)
        and confidence == pytest.approx(card["confidence"], abs=1e-4)
        for kind, box, confidence in boxes
    )


def test_the_map_names_its_dots_and_changes_colours(browser: Browser, job: MainJob) -> None:
    page, trouble = opened(browser, job, width=1280)
    points = table(job, "embedding_map")
    dots = page.locator("#embedding-map circle")
    assert dots.count() == len(points)
    box = dots.first.bounding_box()
    assert box is not None
    dots.first.scroll_into_view_if_needed()
    dots.first.hover(force=True)
    words = page.locator("#map-card span").inner_text()
    assert any(str(image).endswith(words.split(" \u00b7 ")[0]) for image in points["image"])
    choices = page.locator("#colour-by select option").evaluate_all("all => all.map(o => o.value)")
    assert "outcome" in choices
    page.locator("#colour-by select").select_option("outcome")
    legend = [words.strip() for words in page.locator("#map-legend > span").all_inner_texts()]
    assert sorted(legend) == sorted(points["outcome"].unique())
    # By outcome, dots have as many colours as there are outcomes.
    fills = dots.evaluate_all("all => all.map(dot => dot.getAttribute('fill'))")
    groups = pd.Series(fills).groupby(points["outcome"].to_numpy()).nunique()
    assert (groups == 1).all()
    page.locator("#embedding-map svg").focus()
    page.keyboard.press("ArrowRight")
    one = page.locator("#map-card span").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#map-card span").inner_text() != one
    assert trouble == []


def test_a_dot_of_the_map_and_an_image_to_add_open_the_whole_image(browser: Browser, job: MainJob) -> None:
    page, trouble = opened(browser, job, width=1280)
    points = table(job, "embedding_map")
    first = job.record["next"][0]
    number = int(points.index[(points["domain"] == first["domain"]) & (points["image"] == first["image"])][0])
    name = page.locator("#full-name")
    dot = page.locator("#embedding-map circle").nth(number)
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    # Dots may lie on one another: what opens is the dot whose words the page shows.
    shown = page.locator("#map-card span").text_content() or ""
    expect(page.locator("#full-view")).to_be_visible()
    assert shown.startswith(name.inner_text())
    assert page.locator("#full-before").is_hidden()
    drawn = page.locator("#full-image path").count()
    page.keyboard.press("a")
    page.keyboard.press("d")
    assert page.locator("#full-image path").count() == 0
    page.keyboard.press("d")
    page.keyboard.press("a")
    assert page.locator("#full-image path").count() == drawn
    page.keyboard.press("ArrowRight")
    assert shown.startswith(name.inner_text())
    page.keyboard.press("Escape")
    button = page.locator("[data-test=pick] button.pick").first
    button.click()
    assert str(first["image"]).endswith(name.inner_text())
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    # The gallery has its neighbours back.
    page.locator(".card:visible .shot").first.click()
    assert page.locator("#full-after").is_visible()
    assert trouble == []


def test_outcomes_on_the_map_equal_a_count_by_hand(job: MainJob) -> None:
    points = table(job, "embedding_map")
    threshold = job.record["options"].get("conf") or job.record["transfer"]["confidence"]
    detections = table(job, "detections")
    # Beyond a hundred an image, detections have no outcome and count neither way.
    shown = detections[(detections["confidence"] >= threshold) & detections["outcome"].notna()]
    wrong = shown[shown["outcome"] != "true_positive"].groupby("domain")["image"].agg(set)
    right = shown[shown["outcome"] == "true_positive"].groupby(["domain", "image"]).size()
    boxes = table(job, "annotations").groupby(["domain", "image"]).size()
    assert len(points)
    for row in points[points["domain"].isin(["dashcam", "drone"])].to_dict("records"):
        key = (row["domain"], row["image"])
        missed = boxes.get(key, 0) > right.get(key, 0)
        has_wrong = row["image"] in wrong.get(row["domain"], set())
        assert (
            row["outcome"]
            == {
                (False, False): "all right",
                (True, False): "missed objects",
                (False, True): "false positives",
                (True, True): "missed objects and false positives",
            }[missed, has_wrong]
        )


@pytest.mark.parametrize("width", [1280, 800])
def test_the_contents_follow_the_reader(browser: Browser, job: MainJob, width: int) -> None:
    """In one line or in two, and never above the heading that they lead to."""
    page, _ = opened(browser, job, width=width)
    assert page.locator("nav [aria-current]").count() == 0
    for name in ("threshold", "gallery", "methods"):
        page.evaluate(f"document.getElementById('{name}').scrollIntoView()")
        expect(page.locator("nav [aria-current]")).to_have_attribute("href", f"#{name}")
        box = page.locator("nav").bounding_box()
        assert box is not None
        assert box["y"] == pytest.approx(0, abs=1), "the contents stay in view"
        heading = page.locator(f"#{name}").bounding_box()
        assert heading is not None
        assert heading["y"] >= box["height"] or name == "methods"


def test_commands_can_be_copied(browser: Browser, job: MainJob) -> None:
    page, _ = opened(browser, job, width=1280)
    code = page.locator("code.command").first
    page.evaluate("document.querySelector('code.command').closest('details')?.setAttribute('open', '')")
    button = code.locator("xpath=following-sibling::button[1]")
    assert button.get_attribute("aria-label") == f"Copy: {code.inner_text()}"
    button.click()
    expect(button).to_have_text(re.compile("copied|selected"))


def test_a_print_shows_whole_tables(browser: Browser, job: MainJob) -> None:
    page, _ = opened(browser, job, width=PAPER, height=1000)
    folded = page.locator("details:not([open])").count()
    assert folded > 3
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    cut = page.evaluate(
        f"""() => Array.from(document.querySelectorAll("table")).filter(t => t.getBoundingClientRect().width > 0
            && t.getBoundingClientRect().right > {PAPER} + 1).map(t => t.dataset.test || t.outerHTML.slice(0, 80))"""
    )
    assert cut == []
    broken = page.evaluate("""() => Array.from(document.querySelectorAll("table:not(.matrix) td")).flatMap(cell => {
        const found = [], walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) for (const word of walker.currentNode.data.matchAll(/[\\w.]{2,12}/g)) {
            const range = document.createRange();
            range.setStart(walker.currentNode, word.index);
            range.setEnd(walker.currentNode, word.index + word[0].length);
            if (new Set(Array.from(range.getClientRects(), r => Math.round(r.top))).size > 1) found.push(word[0]);
        }
        return found; })""")
    assert broken == []
    assert page.locator(".card.later:visible").count() == page.locator(".card.later").count()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == folded
    assert page.pdf(format="A4")[:5] == b"%PDF-"


@pytest.mark.parametrize(
    ("scheme", "width"), [pytest.param("light", 1280, marks=pytest.mark.slow), ("dark", 390)]
)
def test_axe_finds_nothing(browser: Browser, small_job: MainJob, scheme: str, width: int) -> None:
    page, _ = opened(browser, small_job, width=width, scheme=scheme, axe=True)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    for state in ("unfolded", "whole image"):
        if state == "whole image":
            page.locator(".shot").first.click()
        found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
        assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == [], state


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 25 domains of a detector of 80 classes."""
    return write_large_report(tmp_path_factory.mktemp("large"), domains=25, classes=80).parent


@pytest.mark.slow
def test_many_domains_are_a_table_and_one_at_a_time(browser: Browser, many: Path) -> None:
    assert (many / "report.html").stat().st_size < 15_000_000
    page, trouble = opened(browser, many / "report.html", width=1280)
    assert page.evaluate("document.documentElement.scrollHeight") < 20_000
    assert page.locator("header [data-test=other-verdict]").count() == 24
    picker = page.locator("#domain-picker select")
    focus = picker.input_value()
    assert focus
    assert set(column_of_visible(page, "sweep")) == {"in_domain", focus}
    assert {c.get_attribute("data-of") for c in page.locator(f"{VISIBLE}:visible").all()} == {focus}
    picker.select_option("site 03")
    assert set(column_of_visible(page, "sweep")) == {"in_domain", "site 03"}
    assert (
        page.locator("details[data-test=other-hypotheses][data-domain='site 03']").get_attribute("open")
        is not None
    )
    assert page.locator(".of-focus").is_hidden()
    page.locator("header [data-picks='site 07']").click()
    assert picker.input_value() == "site 07"
    assert {c.get_attribute("data-of") for c in page.locator(f"{VISIBLE}:visible").all()} == {"site 07"}
    picker.select_option("")
    assert len(column_of_visible(page, "domains")) == 26
    # Colours tell six domains apart, and the page says which are drawn.
    assert page.locator("[data-test=drawn]").inner_text().count("site") == 5
    assert trouble == []
    page, _ = opened(browser, many / "report.html", width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def column_of_visible(page: Page, name: str) -> list[str]:
    rows = page.locator(f"[data-test={name}] tbody tr:visible").all()
    return [row.locator("td").first.inner_text().strip() for row in rows]


@pytest.mark.slow
def test_the_slider_goes_by_class(browser: Browser, many: Path) -> None:
    page, _ = opened(browser, many / "report.html", width=1280)
    page.locator("#sweep-class").select_option(label="class 2")
    page.locator("#confidence").fill("0.4")
    cells = page.locator("[data-sweep=in_domain] [data-column]").all_inner_texts()
    # In this report an image shows one class: its detections and annotations by hand, from the tables.
    detections, boxes = (
        pd.read_parquet(many / "tables" / f"{name}.parquet") for name in ("detections", "annotations")
    )
    mine = detections[
        (detections["domain"] == "in_domain") & (detections["label"] == 2) & (detections["confidence"] >= 0.4)
    ]
    right = (mine["outcome"] == "true_positive").sum()
    total = ((boxes["domain"] == "in_domain") & (boxes["label"] == 2)).sum()
    precision, recall = right / len(mine), right / total
    expected = [precision, recall, 2 * precision * recall / (precision + recall), (len(mine) - right) / 40]
    assert [float(cell) for cell in cells] == pytest.approx(expected, abs=0.0051)
    # The drawn curves pass through these numbers, and are those of all classes again afterwards.
    assert page.locator("#sweep-of").inner_text() == "class class 2"
    assert [drawn_at(page, name, 0.4) for name in ("precision", "recall", "f1")] == pytest.approx(
        expected[:3], abs=0.01
    )
    page.locator("#sweep-class").select_option("")
    together = [
        float(cell) for cell in page.locator("[data-sweep=in_domain] [data-column]").all_inner_texts()
    ]
    assert [drawn_at(page, name, 0.4) for name in ("precision", "recall", "f1")] == pytest.approx(
        together[:3], abs=0.01
    )


def drawn_at(page: Page, name: str, confidence: float) -> float:
    """Height of the in-domain curve in the figure at a confidence, read off as a person would: from
    its axes.
    """
    plot = "f1" if name == "f1" else "shares"
    return float(
        page.evaluate(
            r"""([name, plot, at]) => {
                const box = id => document.getElementById(id).getBBox();
                const left = box(`sweep-${plot}-0`), right = box(`sweep-${plot}-1`);
                const points = document.querySelector(`#curve-${name}-0 path`).getAttribute("d")
                    .match(/-?[\d.]+/g).map(Number);
                const x = left.x + at * (right.x - left.x);
                let best = 0;
                for (let i = 0; i < points.length; i += 2) {
                    if (Math.abs(points[i] - x) < Math.abs(points[best] - x)) { best = i; }
                }
                return (left.y + left.height - points[best + 1]) / left.height * 1.02;
            }""",
            [name, plot, confidence],
        )
    )


def test_long_names_are_cut_in_their_middle(browser: Browser) -> None:
    from reports.page.writer import environment

    name = "2026-05-04_<flight>_number_17_frame_000123.jpg"
    template = environment(escape=True).from_string(
        '{% from "macros.html.j2" import long %}<p>{{ long(name, 24) }}</p><p>{{ long("short.jpg", 24) }}</p>'
    )
    page = browser.new_page()
    page.set_content(template.render(name=name))
    cut, short = (paragraph.inner_text() for paragraph in page.locator("p").all())
    assert (len(cut), cut[:7], cut[-16:], short) == (24, "2026-05", "frame_000123.jpg", "short.jpg")
    assert page.locator("span").get_attribute("title") == name


def test_a_page_without_scripts_shows_everything(
    browser: Browser, small_job: MainJob, tmp_path: Path
) -> None:
    text = (small_job.folder / "report.html").read_text(encoding="utf-8")
    write_text(tmp_path / "report.html", text)
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("[data-test=card]:visible").count() == len(small_job.record["gallery"])
    assert page.locator("#gallery-filters").is_hidden(), "no controls that do nothing"
    assert page.locator("#embedding-map circle").count() > 0
