"""A board's bytes depend neither on the processor nor on libraries that compress."""

import os
import subprocess
import sys
import zlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from results import Results

from nfbench.boards.building import build, render
from nfbench.report.entries import Entry
from nfbench.report.settled import rounded, settled

OLDER = {**os.environ, "OPENBLAS_CORETYPE": "Nehalem"}
"""Sums take another order there, so that their last bits are others."""


def test_an_older_processor_renders_the_same_bytes(declare):
    images = {"index": np.arange(2), "clean": np.full((2, 1, 4, 4), 0.25, np.float32)}
    images["adversarial"] = images["clean"] + np.float32(0.1)
    results = Results()
    hard = {"kd": 0.3, "lid": 0.6}
    for defense, attack, eps, seed in product(hard, ("fgsm", "pgd"), (0.1, 0.2), range(3)):
        results.add(defense, attack, eps=eps, seed=seed, evaded=hard[defense], images=300)
    run = replace(results.run, images={results.cells[0].cell: images})
    board = declare(run)
    build(board)
    code = f"from nfbench.cli.boards import app; app(['check', {str(board.path)!r}])"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=OLDER, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_numbers_in_full_are_the_records_and_computed_ones_have_six_digits():
    alone = Results().full(eps=(0.1,), seeds=(0,))
    (table,) = settled(alone.run, "auroc_worst")
    for cell in alone.cells:
        column = list(table.columns).index(f"{cell.attack.name} (linf ≤ 0.1)")
        entry = table.rows[cell.row][column]
        value = cell.metrics["auroc_worst"]
        assert (entry.auroc, entry.auroc_low, entry.auroc_high) == (value.value, value.low, value.high)
    several = Results().full(eps=(0.1,), seeds=(0, 1, 2))
    (table,) = settled(several.run, "auroc_worst")
    for row in (*table.rows.values(), *([entries[-1]] for entries in table.rows.values())):
        for entry in row:
            numbers = [getattr(entry, n) for n in ("auroc", "auroc_low", "auroc_high", "sr5", "sr5_low")]
            assert all(v is None or v == float(f"{v:.6g}") for v in numbers)
    worst = next(entries[-1] for name, entries in table.rows.items() if name == "kd")
    assert worst != Entry()


@pytest.mark.parametrize("value", [0.41249999999999998, 0.7071067811865476, 1e-9, 0.0])
def test_last_bits_do_not_matter_to_a_computed_number(value):
    near = [float(np.nextafter(value, end)) for end in (-1, 2)] if value else [0.0]
    assert {rounded(one) for one in (value, *near)} == {rounded(value)}


def test_pictures_do_not_depend_on_how_they_are_compressed(declare, monkeypatch):
    images = {"index": np.arange(1), "clean": np.full((1, 3, 4, 4), 0.25, np.float32)}
    images["adversarial"] = images["clean"] + np.float32(0.1)
    results = Results().full()
    board = declare(replace(results.run, images={results.cells[0].cell: images}))
    first = render(board, ["html"])
    assert "data:image/png" in first["html"]
    monkeypatch.setattr(zlib, "compress", None)
    monkeypatch.setattr(zlib, "compressobj", None)
    assert render(board, ["html"]) == first
