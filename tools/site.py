"""`make docs`: the documentation as a site in `site/`, with the last report of the demo as a live page.

The pages are those of `docs/`, as they are read on a forge; what they link to beside them (README,
CONTRIBUTING ...) is copied next to them, and links to code become plain text. A link that leads nowhere fails
the build.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "site"
# Pages from the root folder, and their names on the site.
BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
# Navigation by what readers want; every page stands exactly once, or the build fails.
NAVIGATION = {
    "Start": ["index.md", "sources.md", "reading-the-report.md", "python.md", "command-line.md"],
    "Decide": ["adding-data.md", "review.md", "comparing.md", "fiftyone.md"],
    "Detectors": ["training.md", "detectors.md", "scoring.md", "from-the-template.md"],
    "How well it works": [
        "proof.md",
        "photographs.md",
        "diagnoses.md",
        "label-free.md",
        "image-size.md",
        "classes.md",
        "architectures.md",
        "next.md",
        "cost.md",
        "scale.md",
        "benchmark.md",
        "faults.md",
    ],
    "Project": ["api.md", "contributing.md", "changelog.md", "security.md"],
}
API = """# Python reference

::: shiftscope
    options: {show_root_heading: false, show_source: false, members_order: source}

::: shiftscope.results
    options: {show_root_heading: false, show_source: false, members_order: source}
"""
# What follows the language of an example is for the tests, and Python-Markdown knows no such fence.
FENCE = re.compile(r"^(```\w+) [^\n]*$", re.M)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def build_site(site: Path = SITE, report: Path | None = None) -> None:
    """Build the site into a folder.

    Parameters
    ----------
    site
        Where it goes; replaced.
    report
        A report.html to put beside it as `demo/report.html`; None for none.

    Raises
    ------
    SystemExit
        A link leads nowhere, or a page is missing from the navigation.
    """
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "docs"
        copy_pages(pages, live=report is not None)
        listed = [page for part in NAVIGATION.values() for page in part]
        there = {path.name for path in pages.glob("*.md")}
        if sorted(listed) != sorted(there):
            raise SystemExit(f"tools/site.py: NAVIGATION differs from docs/ in {sorted(set(listed) ^ there)}")
        path = Path(folder) / "mkdocs.yml"
        path.write_text(yaml.safe_dump(configuration(pages, site), sort_keys=False), encoding="utf-8")
        if report is not None:
            (pages / "demo").mkdir()
            shutil.copyfile(report, pages / "demo" / "report.html")
        # Material's makers print an advertisement of their next tool with every build.
        quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "true"}
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(path)]
        done = subprocess.run(command, env=quiet, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr.strip() or done.stdout.strip())


def copy_pages(pages: Path, *, live: bool) -> None:
    """Copy the pages into one folder and turn their links. live: whether the report of the demo is beside
    them.
    """
    shutil.copytree(ROOT / "docs", pages)
    for name, target in BESIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        if name == "README.md" and live:
            text = text.replace(
                "## Two commands", "[Open the demo's report](demo/report.html)\n\n## Two commands", 1
            )
        (pages / target).write_text(text, encoding="utf-8")
    (pages / "api.md").write_text(API, encoding="utf-8")
    for path in pages.glob("*.md"):
        text = LINK.sub(_turned, path.read_text(encoding="utf-8"))
        path.write_text(FENCE.sub(r"\1", text), encoding="utf-8")


def _turned(link: re.Match[str]) -> str:
    """A link as the site needs it: pages lie in one folder, code is not there."""
    embeds, words, target, anchor = link.groups()
    # On a forge a page is called by its file.
    words = words.removeprefix("docs/").removesuffix(".md") if words.endswith(".md") else words
    if "://" in target or target.startswith(("mailto:", "demo/")):
        return link[0]
    name = target.removeprefix("../").removeprefix("docs/")
    if name in BESIDE:
        return f"[{words}]({BESIDE[name]}{anchor or ''})"
    if "/" not in name:
        return f"{embeds}[{words}]({name}{anchor or ''})"
    return f"`{name}`"


def configuration(pages: Path, site: Path) -> dict[str, object]:
    """The content of mkdocs.yml: nothing is loaded from anywhere else."""
    return {
        "site_name": "Shiftscope",
        "site_description": "Why a detector fails on real footage, and what to add next",
        "docs_dir": str(pages),
        "site_dir": str(site),
        "use_directory_urls": False,
        "theme": {
            "name": "material",
            "font": False,
            "palette": [
                {"media": "(prefers-color-scheme: light)", "scheme": "default", "primary": "indigo"},
                {"media": "(prefers-color-scheme: dark)", "scheme": "slate", "primary": "indigo"},
            ],
            "features": ["navigation.sections", "toc.follow", "content.code.copy"],
        },
        "plugins": [
            "search",
            {
                "mkdocstrings": {
                    "handlers": {"python": {"paths": [str(ROOT)], "options": {"docstring_style": "numpy"}}}
                }
            },
        ],
        "markdown_extensions": ["tables", "fenced_code", "attr_list", {"toc": {"permalink": True}}],
        "validation": {"links": {"not_found": "warn", "anchors": "warn", "unrecognized_links": "warn"}},
        "nav": [{title: part} for title, part in NAVIGATION.items()],
    }


def demo_report() -> Path | None:
    """The page of the demo's report, where `make report` wrote one."""
    written = sorted((ROOT / "runs" / "report").glob("demo-*/report.html"), key=lambda p: p.stat().st_mtime)
    return written[-1] if written else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SITE)
    chosen = parser.parse_args().out
    demo = demo_report()
    if demo is None:
        sys.stderr.write("The demo's report is not there (make report): the site is built without it.\n")
    build_site(chosen, demo)
    sys.stdout.write(f"{chosen / 'index.html'}\n")
