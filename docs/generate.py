"""Writes command-line.md and the schema of results from the code: `python docs/generate.py`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from nfbench.cli import app
from nfbench.records import SCHEMA, CellRecord

PAGE = Path(__file__).with_name("command-line.md")
SCHEMA_FILE = Path(__file__).parent / "schema" / f"results-{SCHEMA}.json"

HEAD = """# The command line

Written by `python docs/generate.py` from the text of `--help`; do not edit it here.

Lists are comma-separated or repeated flags. Names may be `all`, globs such as `bim-*`, `!name` to
leave one out, or `package.module:Class` for a class that nobody registered. What a flag does not
say is taken from its variable, then from the `--config` file, then from the default.
"""

TAIL = """
## Configuration files

`--config` names a TOML file whose keys are the flags without their dashes; hyperparameters are
tables under `set`. [leaderboards/digits.toml](../leaderboards/digits.toml) is one. With `--defense`,
`--attacks`, `--dataset` or `--model` beside it, tables of plugins that are left out are ignored.

## Exit codes

See [results](results.md#exit-codes).
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, command in _commands(typer.main.get_command(app)):
        arguments = [p for p in command.params if not p.opts[0].startswith("-")]
        flags = [p for p in command.params if p.opts[0].startswith("-")]
        usage = " ".join(["nfbench", name, *map(_usage, arguments), "[OPTIONS]"])
        parts.append(f"\n## nfbench {name}\n\n{_prose(command.help)}\n\n```text\n{usage}\n```\n")
        parts += [f"\n- `{_usage(a)}`: {a.help}\n" for a in arguments]
        rows = [f"| {_flag(p)} | {_variable(p)} | {_cell(p.help)} |" for p in flags]
        parts.append("\n".join(["", "| flag | variable | meaning |", "|---|---|---|", *rows, ""]))
    return "".join([*parts, TAIL])


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, those of groups among them."""
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _usage(argument: Any) -> str:
    name = f"{argument.name.upper()}{'...' if argument.nargs == -1 else ''}"
    return name if argument.required else f"[{name}]"


def _flag(option: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True))


def _variable(option: Any) -> str:
    return f"`{option.envvar}`" if option.envvar else ""


def _prose(text: str) -> str:
    """Paragraphs of a help text, with the examples among them as code."""
    return "\n\n".join(f"`{p}`" if p.startswith("nfbench ") else p for p in text.split("\n\n"))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def schema() -> str:
    """The JSON Schema of a line of `results.jsonl`."""
    found = CellRecord.model_json_schema(mode="serialization")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"nfbench cell, schema {SCHEMA}",
    }
    return json.dumps(found | head, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA_FILE.parent.mkdir(exist_ok=True)
    SCHEMA_FILE.write_text(schema(), encoding="utf-8")
