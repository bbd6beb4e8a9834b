"""The plot shows the numbers of the table, told apart by colour, dashes and panels."""

import sys

import numpy as np
import pytest
from sweeps import BALL, column, entry, swept

from nfbench.core.errors import UsageError
from nfbench.report.figures import styled
from nfbench.sweeping.drawing import draw, figures
from nfbench.sweeping.plotting import SR5, layout

STATIC, ADAPTIVE = column(threat="partial-whitebox"), column()
PAIR = [STATIC, ADAPTIVE]


def of_number(values, _, one):
    """AUROC n / 32, twice that under the static attack; SR@5 % is what it lacks of one."""
    share = float(values[0]) / 32 * (2 if one.threat_model == STATIC.threat_model else 1)
    return entry(share, 1 - share)


def drawn(made, metric="auroc_worst"):
    with styled():
        return dict(figures(made))[metric]


def panels_of(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def lines_of(axes):
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def test_lines_are_the_numbers_of_the_table_in_the_order_of_the_axis():
    made = swept({"n": (10, 2, 5)}, PAIR, of_number)
    (axes,) = panels_of(drawn(made))
    assert lines_of(axes) == [
        ([2, 5, 10], [4 / 32, 10 / 32, 20 / 32]),
        ([2, 5, 10], [2 / 32, 5 / 32, 10 / 32]),
    ]
    (axes,) = panels_of(drawn(made, SR5))
    assert lines_of(axes)[1][1] == [30 / 32, 27 / 32, 22 / 32]


def test_bands_are_the_intervals():
    made = swept({"n": (4, 8)}, [ADAPTIVE], of_number)
    (axes,) = panels_of(drawn(made))
    (band,) = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert corners == {(4, 0.0625), (4, 0.1875), (8, 0.1875), (8, 0.3125)}


def test_many_lines_have_bars_for_intervals():
    columns = [column(name) for name in "abcdef"]
    (axes,) = panels_of(drawn(swept({"n": (4, 8)}, columns, of_number)))
    assert len(axes.collections) == 6
    (low, high) = axes.collections[0].get_segments()[0]
    assert (list(low), list(high)) == ([4, 0.0625], [4, 0.1875])


def test_threat_models_are_colours_and_with_several_attacks_dashes():
    alone = layout(swept({"n": (1, 2)}, PAIR, of_number), SR5)
    assert alone.colour == ("threat model", ("partial-whitebox", "adaptive-whitebox"))
    assert alone.dash is None
    both = [column(a, t) for a in ("pgd", "cw") for t in ("partial-whitebox", "adaptive-whitebox")]
    made = swept({"n": (1, 2)}, both, of_number)
    assert layout(made, SR5).colour == ("attack", ("pgd", "cw"))
    assert layout(made, SR5).dash == ("threat model", ("partial-whitebox", "adaptive-whitebox"))
    figure = drawn(made)
    colours = [(line.get_color(), line.get_linestyle()) for line in panels_of(figure)[0].get_lines()]
    assert len(set(colours)) == 4
    assert len({colour for colour, _ in colours}) == 2
    assert legend_of(figure) == ["pgd", "cw", "partial-whitebox", "adaptive-whitebox"]


def test_a_second_hyperparameter_is_panels_where_lines_are_taken():
    figure = drawn(swept({"n": (1, 2), "size": (0.1, 0.2, 0.3)}, PAIR, of_number))
    titles = [axes.get_title() for axes in panels_of(figure)]
    assert titles == ["size = 0.1", "size = 0.2", "size = 0.3"]
    assert all(len(axes.get_lines()) == 2 for axes in panels_of(figure))


def test_a_second_hyperparameter_is_colours_where_there_is_one_attack_and_attacker():
    figure = drawn(swept({"n": (1, 2), "size": (0.1, 0.2)}, [ADAPTIVE], of_number))
    (axes,) = panels_of(figure)
    assert len(axes.get_lines()) == 2
    assert legend_of(figure) == ["size = 0.1", "size = 0.2"]
    assert figure.get_suptitle() == "neuralfp on digits, pgd, linf ≤ 0.25, adaptive-whitebox"


def test_the_axis_is_the_first_hyperparameter_of_numbers():
    made = swept({"kind": ("a", "b"), "size": (0.1, 0.2)}, PAIR, lambda *_: entry())
    assert layout(made, SR5).x.label == "size"
    assert [axes.get_title() for axes in panels_of(drawn(made))] == ["kind = a", "kind = b"]


def test_categories_are_ticks_without_lines_between_them():
    made = swept({"flag": (True, False, None)}, [ADAPTIVE], lambda *_: entry())
    (axes,) = panels_of(drawn(made))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["True", "False", "none"]
    (line,) = axes.get_lines()
    assert line.get_linestyle() == "None"


def test_lists_are_categories_too():
    made = swept({"layers": ([1], [1, 2])}, [ADAPTIVE], lambda *_: entry())
    (axes,) = panels_of(drawn(made))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["[1]", "[1, 2]"]


@pytest.mark.parametrize(
    ("values", "scale"),
    [((1, 19.9), "linear"), ((1, 20), "log"), ((0, 50), "linear"), ((-1, 50), "linear")],
)
def test_an_axis_is_logarithmic_from_a_factor_of_twenty_if_all_is_positive(values, scale):
    (axes,) = panels_of(drawn(swept({"n": values}, [ADAPTIVE], lambda *_: entry())))
    assert axes.get_xscale() == scale


def test_labels_of_the_axis_are_values_and_do_not_touch():
    made = swept({"n": tuple(range(1, 200))}, [ADAPTIVE], lambda *_: entry())
    (axes,) = panels_of(drawn(made))
    shown = [int(tick.get_text()) for tick in axes.get_xticklabels()]
    assert shown[-1] == 199
    assert 3 <= len(shown) <= 12
    logs = np.log(shown)
    assert (np.diff(logs) >= 0.05 * (logs[-1] - 0)).all()


def test_of_many_attacks_the_worst_cases_are_shown():
    columns = [column(name) for name in "abcdefg"] + [column("")]
    made = swept({"n": (1, 2)}, columns, of_number)
    assert {mark.at["attack"] for mark in layout(made, SR5).marks} == {"worst case"}
    fewer = swept({"n": (1, 2)}, columns[:6], of_number)
    assert len({mark.at["attack"] for mark in layout(fewer, SR5).marks}) == 6


def test_budgets_are_named_where_they_differ():
    ladder = [column(ball="linf ≤ 0.1"), column()]
    assert legend_of(drawn(swept({"n": (1, 2)}, ladder, of_number))) == ["linf ≤ 0.1", BALL]
    mixed = [column(ball="linf ≤ 0.1"), column("cw", ball="smallest l2")]
    assert legend_of(drawn(swept({"n": (1, 2)}, mixed, of_number))) == [
        "pgd (linf ≤ 0.1)",
        "cw (smallest l2)",
    ]


def test_flagged_numbers_are_hollow_and_upper_bounds_have_a_tip():
    made = swept({"n": (1, 2)}, [ADAPTIVE], lambda v, *_: entry(flagged=v == (1,), bound=v == (2,)))
    figure = drawn(made)
    _, hollow, tip = panels_of(figure)[0].get_lines()
    assert (list(hollow.get_xdata()), hollow.get_markerfacecolor()) == ([1], "white")
    assert (list(tip.get_xdata()), tip.get_marker()) == ([2], "v")
    assert legend_of(figure) == ["hollow: a weak attack", "an upper bound"]
    assert legend_of(drawn(made, SR5)) == ["hollow: a weak attack"]


def test_numbers_that_are_missing_are_left_out_and_a_figure_of_none_is_not_drawn(tmp_path):
    def some(values, *_):
        return entry() if values[0] > 1 else entry().__class__(note="failed")

    (axes,) = panels_of(drawn(swept({"n": (1, 2, 3)}, [ADAPTIVE], some)))
    assert lines_of(axes) == [([2, 3], [0.5, 0.5])]
    nothing = swept({"n": (1, 2)}, [ADAPTIVE], lambda *_: entry().__class__(note="failed"))
    assert draw(nothing, tmp_path) == []


def test_figures_are_files_of_the_same_bytes_each_time(tmp_path):
    made = swept({"n": (1, 2)}, PAIR, of_number)
    first, second = (draw(made, tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in first] == [
        f"sweep-{metric}.{kind}" for metric in ("auroc_worst", SR5) for kind in ("svg", "png")
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert all(path.stat().st_size < 300_000 for path in first)


def test_without_matplotlib_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install 'nfbench\[figures\]'"):
        draw(swept({"n": (1, 2)}, PAIR, of_number), tmp_path)
