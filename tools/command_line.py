"""The reference of the command line, generated from the classes in `reports.options`.

`python -m tools.command_line` writes docs/command-line.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from reports import options
from reports.cli import BAD_INPUT, ENVIRONMENT, INTERRUPTED, OK, TOO_MANY_SKIPPED, app
from reports.options import Parsed

PAGE = Path(__file__).parents[1] / "docs" / "command-line.md"
INTRODUCTION = """# The command line

`python -m tools.command_line` writes this page from the options classes in `reports/options.py`.
`shiftscope COMMAND --help` prints the same for the installed version. After `make setup` the command is
`.venv/bin/shiftscope`; `make report`, `make app`, `make next` and `make train` call it, and pass on `ARGS`.

- Results go to stdout, progress to stderr. With `--json`, stdout is one JSON value.
- SOURCE is explained in [sources.md](sources.md).
- An option marked *repeatable* may be given several times.
- An error is one line on stderr. `--debug`, anywhere in the command, shows the traceback and the time taken.

"""
EXIT_CODES = {
    OK: "done",
    BAD_INPUT: "bad input: an option, a file, a source or a checkpoint",
    ENVIRONMENT: "a problem of the machine, such as a full disk or a missing package; or an internal error. "
    "`shiftscope doctor` fails with this code",
    TOO_MANY_SKIPPED: "done and written, but more files than `--max-skipped` were not used",
    INTERRUPTED: "interrupted; the same command continues (`train`: with `--resume RUN`)",
}
VARIABLES = {
    "SHIFTSCOPE_RUNS": "folder for everything that is written; default: `runs` in the current folder",
    "SHIFTSCOPE_S3": "folder for what is fetched from buckets; default: `data/s3` in the current folder",
    "KAGGLEHUB_CACHE": "folder for downloads from Kaggle; default: `data/kaggle` in the current folder",
    "FIFTYONE_DATABASE_URI": "a MongoDB server of your own for the FiftyOne datasets, "
    "instead of the one that FiftyOne starts",
    "FIFTYONE_DATABASE_DIR": "folder of the database that FiftyOne starts",
    "SHIFTSCOPE_BACKEND": "`torch` leaves forward passes on a CPU to PyTorch where OpenVINO is installed",
    "OMP_WAIT_POLICY": "`passive` where other work shares the CPU: "
    "measured three times as fast then, half as fast alone",
    "YOLO_CONFIG_DIR, YOLO_OFFLINE, YOLO_AUTOINSTALL": "Ultralytics' own; unless you set them, "
    "its settings stay in `runs/.ultralytics`, it uses no network, and it installs nothing",
}


@dataclass(frozen=True)
class Entry:
    """One row of a table.

    names: how the option or argument is written
    meaning: its help, its range, whether it may be repeated, and its default
    """

    names: str
    meaning: str


def entries(kind: type[options.Options]) -> Iterator[Entry]:
    """Arguments and options of a command, in the order of its class."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):  # type: ignore[arg-type]  # every options class is a dataclass
        base, *extras = get_args(hints[field.name])
        declaration = next(extra for extra in extras if isinstance(extra, (ArgumentInfo, OptionInfo)))
        parsed = next((extra for extra in extras if isinstance(extra, Parsed)), None)
        many = parsed.many if parsed else get_origin(base) is tuple
        yield Entry(
            _names(field.name, base if parsed is None else str, declaration),
            _meaning(field, declaration, many=many),
        )


def _names(name: str, base: Any, declaration: ArgumentInfo | OptionInfo) -> str:
    """The option with the kind of value it takes, or the argument."""
    if isinstance(declaration, ArgumentInfo):
        return f"`{declaration.metavar or name.upper()}`".replace("|", "\\|")
    plain = f"--{name.replace('_', '-')}"
    # In an annotation, typer takes the first name of an option for its default.
    names = [declaration.default, *(declaration.param_decls or ())]
    if bool in (base, *get_args(base)):
        default = f"{plain}/{plain.replace('--', '--no-', 1)}"
        written = next((text for text in names if isinstance(text, str)), default)
        return ", ".join(f"`{part}`" for part in written.split("/") if part.strip())
    written = next((text for text in names if isinstance(text, str)), plain)
    if isinstance(base, type) and issubclass(base, StrEnum):
        words = "\\|".join(base)
        return f"`{written} {words}`"
    kinds = {str: "TEXT", Path: "PATH", int: "N", float: "X"}
    kind = next(word for kind, word in kinds.items() if kind in (base, *get_args(base)))
    return f"`{written} {kind}`"


def _meaning(field: Field[Any], declaration: ArgumentInfo | OptionInfo, *, many: bool) -> str:
    """The help, and what the declaration adds to it."""
    text = (declaration.help or "").removesuffix(" Repeatable.")
    text = text if text.endswith("...") else text.removesuffix(".")
    notes = []
    if declaration.max is not None:
        notes.append(f"{declaration.min:g} to {declaration.max:g}")
    elif declaration.min:
        notes.append(f"at least {declaration.min:g}")
    if many and isinstance(declaration, OptionInfo):
        notes.append("*repeatable*")
    if field.default is MISSING:
        notes.append("**required**")
    elif field.default not in (None, ()) and not isinstance(field.default, bool):
        notes.append(f"default: {field.default}")
    sentence = "; ".join([text, *notes] if text else notes)
    return sentence.replace("|", "\\|")


def page() -> str:
    """Content of docs/command-line.md."""
    commands = {}
    for command in app.registered_commands:
        callback = command.callback
        assert callback is not None
        name = command.name or callback.__name__
        commands[name] = (callback.__doc__ or "", getattr(options, f"{name.title()}Options", None))
    parts = [INTRODUCTION]
    parts += [f"- [{name}](#shiftscope-{name}): {help_}\n" for name, (help_, _) in commands.items()]
    for name, (help_, kind) in commands.items():
        parts.append(f"\n## shiftscope {name}\n\n{help_}\n")
        if kind is None:
            continue
        parts.append("\n| | |\n|---|---|\n")
        parts += [f"| {entry.names} | {entry.meaning} |\n" for entry in entries(kind)]
    parts.append("\n## Exit codes\n\n| | |\n|---|---|\n")
    parts += [f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items()]
    parts.append("\n## Environment variables\n\n| | |\n|---|---|\n")
    for names, meaning in VARIABLES.items():
        parts.append(f"| {', '.join(f'`{name}`' for name in names.split(', '))} | {meaning} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
