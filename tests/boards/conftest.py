"""Boards in a directory of their own."""

import pytest
from results import Results

from nfbench.boards.boardfile import read_board
from nfbench.report import compact

FILE = """# A board:
#     nfbench run --config leaderboards/{name}.toml

attacks = ["fgsm", "pgd"]
limit = 40
seed = [0, 1]

[board]
title = "A board"
"""


@pytest.fixture
def results():
    return Results().full()


@pytest.fixture
def declare(tmp_path):
    """Write a board's file and, if given, its results."""

    def make(run=None, name="mine", text=FILE):
        path = tmp_path / "leaderboards" / f"{name}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(name=name))
        board = read_board(path)
        if run is not None:
            compact.write(run, board.results)
        return board

    return make
