"""The table for people who come from the template is whole, and what it names is there."""

from __future__ import annotations

import ast
import re

import pytest
import typer.main

from reports.cli import app
from tests.template_table import MOVING, ROOT, SECTIONS, page, untested

ROWS = [row for section in SECTIONS for row in section.rows]


def functions(file: str) -> set[str]:
    """Names of the functions of a test file, read and not run."""
    path = ROOT / "tests" / file
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_document_is_that_of_the_table() -> None:
    assert (ROOT / "docs" / "from-the-template.md").read_text(encoding="utf-8") == page(), (
        "run python -m tests.template_table"
    )


def test_every_test_that_is_named_exists() -> None:
    named = sorted({name for row in ROWS for name in row.tests})
    missing = [name for name in named if name.partition("::")[2] not in functions(name.partition("::")[0])]
    assert missing == []


def test_only_these_promise_something_without_a_test() -> None:
    assert [row.theirs for row in untested()] == [
        "docs/streamlit_app.md",
        "example_datasets.md",
    ]


def test_every_row_says_what_does_it_or_what_to_use_instead() -> None:
    assert all(row.ours or row.gone for row in ROWS)
    assert len({(section.title, row.theirs) for section in SECTIONS for row in section.rows}) == len(ROWS)
    # A bar would end the cell.
    assert not [row for row in ROWS if "|" in row.theirs + row.ours + row.gone]


@pytest.mark.parametrize("command", [ours for *_, ours in MOVING])
def test_command_lines_beside_the_templates_are_ours(command: str) -> None:
    """Every command and option that the guide names is one of the console script's."""
    commands = typer.main.get_command(app).commands
    for call in re.findall(r"shiftscope ([a-z]+)((?: [^ ]+)*?)(?=` and, |$)", command):
        known = {text for parameter in commands[call[0]].params for text in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", call[1])) <= known, call


def test_commands_of_the_table_are_ours() -> None:
    commands = typer.main.get_command(app).commands
    for row in ROWS:
        for call, rest in re.findall(r"`shiftscope ([a-z]+)([^`]*)`", row.ours + row.gone):
            known = {text for parameter in commands[call].params for text in parameter.opts}
            assert set(re.findall(r"--[a-z-]+", rest)) <= known, (row.theirs, call)
