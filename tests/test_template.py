"""The guide for users of the template: it is complete, and every command, option and test in it exists."""

from __future__ import annotations

import ast
import re

import pytest
import typer.main

from reports.cli import app
from tests.template_table import MOVING, ROOT, SECTIONS, page, untested

ROWS = [row for section in SECTIONS for row in section.rows]


def functions(file: str) -> set[str]:
    """Names of the functions of a test file, which is parsed, not imported."""
    path = ROOT / "tests" / file
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_document_is_up_to_date() -> None:
    assert (ROOT / "docs" / "from-the-template.md").read_text(encoding="utf-8") == page(), (
        "run python -m tests.template_table"
    )


def test_every_named_test_exists() -> None:
    names = sorted({name for row in ROWS for name in row.tests})
    missing = [name for name in names if name.partition("::")[2] not in functions(name.partition("::")[0])]
    assert missing == []


def test_only_documents_have_no_test() -> None:
    assert [row.template for row in untested()] == [
        "docs/streamlit_app.md",
        "example_datasets.md",
    ]


def test_every_row_has_a_counterpart_or_an_alternative() -> None:
    assert all(row.here or row.remark for row in ROWS)
    assert len({(section.title, row.template) for section in SECTIONS for row in section.rows}) == len(ROWS)
    # A bar would end the table cell.
    assert not [row for row in ROWS if "|" in row.template + row.here + row.remark]


@pytest.mark.parametrize("command", [here for *_, here in MOVING])
def test_command_lines_have_only_known_commands_and_options(command: str) -> None:
    commands = typer.main.get_command(app).commands
    for call in re.findall(r"shiftscope ([a-z]+)((?: [^ ]+)*?)(?=` and, |$)", command):
        options = {text for parameter in commands[call[0]].params for text in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", call[1])) <= options, call


def test_commands_in_the_table_have_only_known_options() -> None:
    commands = typer.main.get_command(app).commands
    for row in ROWS:
        for call, rest in re.findall(r"`shiftscope ([a-z]+)([^`]*)`", row.here + row.remark):
            options = {text for parameter in commands[call].params for text in parameter.opts}
            assert set(re.findall(r"--[a-z-]+", rest)) <= options, (row.template, call)
