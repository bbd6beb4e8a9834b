"""The files of a sweep, and its Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from nfbench.core.errors import NFBenchError
from nfbench.records import MARK, Value
from nfbench.report.entries import CLIMBING, number
from nfbench.report.escaping import code, escaped, text
from nfbench.report.leaderboard import FLAGGED, LATER, STATISTICS, WIDE
from nfbench.report.run import Run
from nfbench.store import write_atomic
from nfbench.sweeping.data import document, sheet
from nfbench.sweeping.rows import Column, Swept, values_of
from nfbench.sweeping.unrolling import text_of


def write(swept: Swept, out: Path, figures: Sequence[Path] = ()) -> list[Path]:
    """Write `sweep.md`, `sweep.csv` and `sweep.json`; returns them.

    Raises:
        NFBenchError: if `out` can't be written.
    """
    pictures = [path.name for path in figures if path.suffix == ".svg"]
    made = {"md": markdown(swept, pictures), "csv": sheet(swept), "json": document(swept)}
    paths = [out / f"sweep.{suffix}" for suffix in made]
    try:
        for path, content in zip(paths, made.values(), strict=True):
            write_atomic(path, content.encode())
    except OSError as error:
        raise NFBenchError(
            f"can't write {out}: {error.strerror or error}; every finished job is kept, make room and "
            "run again"
        ) from None
    return paths


def titled(swept: Swept) -> str:
    """What a sweep is called."""
    names = [axis.label for axis in swept.axes]
    varied = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"nfbench on {swept.dataset}: a sweep of {varied}"


def notes(swept: Swept) -> list[str]:
    """What the signs beside numbers mean, a line each."""
    entries = [entry for _, row in swept.lines() for entry in row.entries.values()]
    said = []
    if any(entry.bound and entry.auroc is not None for entry in entries):
        said.append("≤: an upper bound, since the attack stops early")
    if any(entry.climbing for entry in entries):
        said.append(f"{CLIMBING}: {LATER}")
    if any(entry.flagged for entry in entries):
        said.append(f"{MARK}: {FLAGGED}")
    if any(entry.turned is not None for entry in entries):
        said.append("(in brackets): with the sign of the score chosen on the test images")
    return said


def markdown(swept: Swept, pictures: Sequence[str] = ()) -> str:
    """The whole page, with pictures by their file names."""
    about = STATISTICS[swept.statistic]
    (summary,) = escaped(Run({"summary": [swept.summary]}, [], {})).info["summary"]
    lines = [f"# {text(titled(swept))}", "", summary, ""]
    lines += [f"`{code(swept.command)}`", ""] if swept.command else []
    lines += [
        f"Each cell: `{swept.statistic}` / SR@5 %, below it their 95 % intervals.",
        "",
        f"- `{swept.statistic}`: {about}.",
        "- SR@5 %: share of the attacked images that are misclassified *and* accepted, at the threshold",
        "  that rejects 5 % of held-out clean images.",
        "- clean acc.: of the classifier on clean images; false alarms: share of clean test images that",
        "  are rejected at that threshold.",
        *(f"- {note}" for note in notes(swept)),
        "",
    ]
    for threat in dict.fromkeys(column.threat_model for column in swept.columns):
        own = [column for column in swept.columns if column.threat_model == threat]
        lines += [f"## {text(threat)}", "", *_tables(swept, own)]
    lines += [part for name in pictures for part in (f"![{name.removesuffix('.svg')}]({name})", "")]
    return "\n".join(lines + _points(swept)).rstrip() + "\n"


def _tables(swept: Swept, columns: Sequence[Column]) -> list[str]:
    """One table, or one a budget where that would be too wide, the worst cases first."""
    each = [column for column in columns if column.attack]
    worst = [column for column in columns if not column.attack]
    if len(each) <= WIDE:
        return [_table(swept, columns), ""]
    lines = [_table(swept, worst), ""] if worst else []
    for ball in dict.fromkeys(column.ball for column in each):
        lines += [_table(swept, [column for column in each if column.ball == ball]), ""]
    return lines


def _table(swept: Swept, columns: Sequence[Column]) -> str:
    several = len(swept.defenses) > 1
    titles = [axis.label for axis in swept.axes] + ["defense"] * several
    titles += ["clean acc.", "false alarms", *(column.title for column in columns)]
    body = []
    for result, row in swept.lines():
        values = [text(text_of(result.values[axis.name])) for axis in swept.axes]
        values += [text(row.defense)] * several
        facts = [_spanned(number(one.value), [one]) for one in (row.accuracy, row.alarms)]
        found = [swept.entry(result, row, column) for column in columns]
        body.append(values + facts + [_spanned(one.text, values_of(one)) for one in found])
    return tabulate(body, [*map(text, titles)], tablefmt="github", disable_numparse=True)


def _spanned(numbers: str, values: Sequence[Value]) -> str:
    """Numbers, and on a line of their own the intervals."""
    if all(value.low is None for value in values):
        return numbers
    spans = ("–" if v.low is None else f"{number(v.low)}–{number(v.high)}" for v in values)
    return f"{numbers}<br>{' / '.join(spans)}"


def _points(swept: Swept) -> list[str]:
    """Where each point lies, and why it lacks numbers."""
    lines = ["## Points", ""]
    for result in swept.results:
        label = text(swept.label(result))
        ran = f"[{label}]({result.folder}/leaderboard.md)" if result.statuses else f"{label}: not run"
        lines.append(f"- {ran}")
        lines += [f"  - {text(reason)}" for reason in result.reasons]
    return lines
