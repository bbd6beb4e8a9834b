"""From the runs kept for the claims to their page; the same files give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nfbench.reproduce.concluding import Row, conclude
from nfbench.reproduce.keeping import find
from nfbench.reproduce.page import markdown
from nfbench.reproduce.paper import papers


def page_of(folder: Path) -> list[Row]:
    """Every claim of every paper, judged by the runs in a folder.

    Raises:
        CorruptArtifact: if something in it is damaged.
    """
    claims = [(paper, claim) for paper in papers() for claim in paper.claims]
    return conclude(claims, find(folder))


def document(rows: Sequence[Row], home: Path) -> dict[Path, str]:
    """The texts of the page's files, for people and for machines."""
    plain = [row.plain() for row in rows]
    return {
        home / "claims.md": markdown(rows),
        home / "claims.json": json.dumps(plain, indent=1, sort_keys=True) + "\n",
    }
