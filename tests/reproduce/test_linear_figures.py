"""Figures 2 and 8: what they show is what the detector does."""

import io
import json

import numpy as np
import pytest

from nfbench.report.figures import styled
from nfbench.reproduce.figures import linear as figures
from nfbench.reproduce.linear import LinearDetector, Margins, Plane
from nfbench.reproduce.separable import drawn_in_the_plane
from nfbench.reproduce.study import Made


class Sources:
    """The data set of the figures, as the study gives it."""

    def study(self, name):
        assert name == "linear-svm"
        return Made({}, drawn_in_the_plane())


def drawn(draw):
    with styled():
        drawing = draw(Sources())
        svg = io.BytesIO()
        drawing.figure.savefig(svg, format="svg", bbox_inches="tight")
    assert len(svg.getvalue()) <= 300_000
    json.dumps(drawing.data, allow_nan=False)
    return drawing


def hatched(axes, point):
    """Whether a point is drawn as rejected, or else filled as accepted; None if it is neither."""
    over = [patch for patch in axes.patches if patch.get_path().contains_point(point)]
    assert len(over) <= 1
    return bool(over[0].get_hatch()) if over else None


@pytest.mark.parametrize("name", ["geometry", "proof"])
def test_the_figures_colour_what_is_accepted_and_hatch_what_is_rejected(name):
    drawing = drawn(getattr(figures, name))
    plane = Plane(np.array(drawing.data["w"]), drawing.data["b"])
    x, y = np.array(drawing.data["x"]), np.array(drawing.data["class"])
    detector = LinearDetector(plane, Margins.of(plane, x, y))
    points = np.random.default_rng(0).uniform(-3.6, 3.6, (400, 2))
    negative = plane.output(points) < 0
    expected = [
        None if name == "geometry" and not below else not accepted
        for below, accepted in zip(negative, detector.accepts(points), strict=True)
    ]
    axes = drawing.figure.axes[0]
    assert [hatched(axes, point) for point in points] == expected
    assert (np.abs(x) < 3.6).all()


def test_figure_2_shows_two_fingerprints_that_hold_and_two_that_give_a_fake_away():
    data = drawn(figures.geometry).data
    found = [(one["fingerprint"], one["response"], one["expected"]) for one in data["arrows"]]
    assert found == [(1, 0, 0), (2, 2, 2), (1, 2, 0), (2, 0, 2)]
    real = [one["start"] in data["x"] for one in data["arrows"]]
    assert real == [True, True, False, False]


def test_figure_8_shows_four_fingerprints_and_a_point_that_they_miss():
    data = drawn(figures.proof).data
    found = [(one["fingerprint"], one["response"]) for one in data["arrows"]]
    assert found == [(1, 0), (2, 2), (3, -2), (4, 0)]
    assert all(one["start"] in data["x"] for one in data["arrows"])
    plane = Plane(np.array(data["w"]), data["b"])
    detector = LinearDetector(plane, Margins.of(plane, np.array(data["x"]), np.array(data["class"])))
    start, end = (np.array([data["unnoticed"][name]]) for name in ("start", "end"))
    assert detector.predict(np.vstack([start, end])).tolist() == [-1, 1]
    assert detector.accepts(end).tolist() == [True]


def test_the_rows_of_figure_8_are_what_each_fingerprint_rejects_alone():
    axes = drawn(figures.proof).figure.axes[1]
    arrays = drawn_in_the_plane()
    least_n, most_n, least_p, most_p = arrays["margins"]
    for d in np.random.default_rng(0).uniform(-2.9, 2.9, 200):
        rows = [-least_n < d < 0, d < -most_n, d > most_p, 0 < d < least_p]
        asked = [d < 0, d < 0, d > 0, d > 0]
        expected = [no if ask else None for no, ask in zip(rows, asked, strict=True)]
        assert [hatched(axes, (d, row)) for row in range(5)] == [*expected, any(rows)]
