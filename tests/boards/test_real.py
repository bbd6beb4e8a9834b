"""A real run becomes a board, and its board agrees with it."""

import csv

import pytest

from nfbench.boards.boardfile import read_board
from nfbench.boards.building import build
from nfbench.boards.checking import check
from nfbench.report.run import read
from nfbench.runner.options import Options
from nfbench.session import Place, execute


class Silent:
    """A progress display that shows nothing."""

    def __getattr__(self, name):
        return lambda *_, **__: None


@pytest.fixture(scope="module")
def ran(tmp_path_factory, registry):
    """One defense, one attack, 20 digits, a network trained for one epoch."""
    home = tmp_path_factory.mktemp("real")
    options = Options(
        defense=("max-softmax",),
        attacks=("fgsm",),
        threat_model=("partial-whitebox",),
        limit=20,
        settings={"training": {"epochs": 1}},
    )
    execute(options, Place(home / "run", home / "cache", "cpu"), registry, Silent())
    return home


def test_a_run_becomes_a_board_with_its_numbers(ran):
    path = ran / "leaderboards" / "real.toml"
    path.parent.mkdir()
    path.write_text('attacks = "fgsm"\nlimit = 20\nseed = 0\n')
    board = read_board(path)
    build(board, ran / "run")
    check(board)
    with board.output("csv").open(newline="") as file:
        rows = {row["cell"]: row for row in csv.DictReader(file)}
    run = read(ran / "run")
    assert rows.keys() == {cell.cell for cell in run.cells}
    for cell in run.cells:
        assert rows[cell.cell]["standing"] in ("ranked", "flagged")
        for name, value in cell.metrics.items():
            assert rows[cell.cell][name] == ("" if value.value is None else repr(value.value))
