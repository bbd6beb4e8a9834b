"""A board's file: what it may say, and how it is found."""

import pytest

from nfbench.boards.boardfile import find, read_board
from nfbench.core.errors import UsageError


def test_a_board_takes_from_its_file_what_rows_are_held_to(declare):
    board = declare()
    assert (board.name, board.title, board.limit, board.seeds) == ("mine", "A board", 40, (0, 1))
    assert board.attacks == ("fgsm", "pgd")
    assert board.results == board.path.parent / "mine"
    assert board.command == "nfbench run --config leaderboards/mine.toml"


def test_globs_exclusions_and_addresses_are_left_to_the_run(declare):
    board = declare(text='attacks = ["all", "!cw", "bim-*", "my.own:Attack", "pgd"]\nseed = 3')
    assert board.attacks == ("pgd",)
    assert board.seeds == (3,)


def test_without_names_every_board_with_results_is_meant(declare, results):
    declare(results.run, "one")
    declare(None, "two")
    three = declare(None, "three")
    three.output("md").write_text("results are gone")
    assert [board.name for board in find((), three.path.parent)] == ["one", "three"]


def test_an_unknown_board_is_told_with_the_nearest_name(declare):
    home = declare(None, "digits").path.parent
    with pytest.raises(UsageError, match=r"no board is called 'digit'; did you mean 'digits'"):
        find(["digit"], home)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a = ", "no valid TOML"),
        ("board = 3", "board should be a table"),
        ("[board]\ntitel = 'x'", "unknown key 'titel' in \\[board\\]; did you mean 'title'"),
        ("[board]\ntitle = 3", "title = 3 in \\[board\\] should be a string"),
        ("[board]\nstatistic = 'auroc'", "unknown statistic 'auroc'"),
        ("[board]\nresults = '../other'", "must lie beside the board"),
        ("[board]\nresults = '/tmp'", "must lie beside the board"),
        ("seed = ['x']", "seed should be whole numbers"),
    ],
)
def test_what_cannot_be_right_is_one_line(declare, text, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        declare(text=text)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="can't read the board"):
        read_board(tmp_path / "none.toml")


def test_a_folder_without_results_is_one_line(tmp_path, declare):
    with pytest.raises(UsageError, match="there is no folder"):
        find((), tmp_path / "none")
    with pytest.raises(UsageError, match=r"no board in .* has results yet"):
        find((), declare().path.parent)


def test_a_comment_is_no_shell_to_stumble_over(declare):
    board = declare(text="# It's a board:\n#     nfbench run --set a='b --out runs/there\n")
    assert board.rebuild().endswith("`nfbench leaderboard build mine --from runs/there`")
