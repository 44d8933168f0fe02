"""The documentation as a site: it builds, loads nothing from elsewhere, and a link that leads nowhere fails
it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.conftest import MainJob, opened
from tools import site

pytestmark = pytest.mark.slow


def test_the_site_is_whole_and_loads_nothing(browser: Browser, small_job: MainJob, tmp_path: Path) -> None:
    site.build_site(tmp_path / "site", small_job.folder / "report.html")
    pages = {path.name for path in (tmp_path / "site").glob("*.html")}
    assert {name.replace(".md", ".html") for part in site.NAVIGATION.values() for name in part} <= pages
    for path in (tmp_path / "site").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r'(?:src=|<link[^>]*stylesheet[^>]*href=)"(?:https?:)?//[^"]*"', text), path
    page, trouble = opened(browser, tmp_path / "site" / "index.html", width=1280)
    page.get_by_text("Open the demo's report").click()
    assert page.locator("[data-test=verdict]").count() == 1
    assert [text for text in trouble if "file:" not in text] == []
    page, _ = opened(browser, tmp_path / "site" / "api.html", width=1280)
    for name in ("report", "open_report", "score", "predict", "rank", "train"):
        assert page.locator(f"[id='shiftscope.{name}']").count() == 1


def test_a_link_that_leads_nowhere_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copied = site.copy_pages

    def with_a_mistake(pages: Path, *, live: bool) -> None:
        copied(pages, live=live)
        with (pages / "sources.md").open("a", encoding="utf-8") as file:
            file.write("\n[gone](nowhere.md) and [no such part](sources.md#no-such-part)\n")

    monkeypatch.setattr(site, "copy_pages", with_a_mistake)
    with pytest.raises(SystemExit, match=r"nowhere\.md") as caught:
        site.build_site(tmp_path / "site")
    assert "no-such-part" in str(caught.value)
