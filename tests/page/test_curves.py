"""What figures are drawn from: worst cases, ROC, histograms, pictures."""

import base64
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from pages import Page, made
from PIL import Image
from sklearn.metrics import roc_auc_score

from nfbench.report.board import tables
from nfbench.report.page import gallery as galleries
from nfbench.report.page import render
from nfbench.report.page.curves import detection_rates, ladders, radii, score_shares, worst_lines
from nfbench.report.page.gallery import gallery
from nfbench.report.page.markup import el, escaped
from nfbench.report.page.pictures import png
from nfbench.report.page.places import Faced
from nfbench.report.page.places import places as places_of
from nfbench.report.page.plot import Plot, rates


def places(run):
    return places_of(run, tables(run))


def faced(clean, evasion, threshold=0.0, noisy=()):
    none = np.zeros(len(evasion), dtype=int)
    arrays = (np.asarray(v, dtype=np.float64) for v in (clean, noisy, evasion))
    return Faced(*arrays, threshold, np.arange(len(evasion)), none, ["pgd"])


@pytest.fixture(scope="module")
def where():
    return places(made(seeds=(0, 1)))


def test_the_worst_case_drawn_is_the_one_in_the_tables(where):
    assert len(where) == 4
    for place in where:
        for name, seeds in place.faced.items():
            found = [np.mean((s.evasion <= s.threshold) & np.isfinite(s.evasion)) for s in seeds]
            assert place.worst[name].sr5 == pytest.approx(np.mean(found), abs=1e-12)


def test_who_cannot_choose_has_one_attack_for_all_images(where):
    for place in where:
        for seeds in place.faced.values():
            winners = [set(s.winner[s.winner >= 0].tolist()) for s in seeds]
            assert all((len(w) == 1) == (place.threat == "blackbox") for w in winners)


def test_a_winner_is_the_attack_whose_score_is_the_lowest():
    run = made(defenses=("kd",), threats=("adaptive-whitebox",), eps=(0.1,))
    (place,) = places(run)
    (seed,) = place.faced["kd"]
    scores = np.stack([run.samples[c.cell]["evasion_score"] for c in run.cells])
    for image, winner in enumerate(seed.winner):
        lowest = scores[:, image].min()
        assert seed.evasion[image] == lowest
        assert (winner == -1) == math.isinf(lowest)
        assert winner == -1 or scores[winner, image] == lowest


def test_the_area_under_the_roc_is_the_auroc_that_scikit_learn_finds():
    rng = np.random.default_rng(1)
    clean, adversarial = rng.normal(size=150), rng.normal(0.8, 1, size=120)
    at = np.linspace(0, 1, 150 * 200 + 1)
    area = np.trapezoid(detection_rates([faced(clean, adversarial)], at), at)
    truth = roc_auc_score([0] * 150 + [1] * 120, np.concatenate([clean, adversarial]))
    assert area == pytest.approx(truth, abs=1e-4)


def test_the_roc_counts_images_never_misclassified_as_detected():
    one = faced([0.0, 1.0, 2.0, 3.0], [np.inf, 2.5, -1.0, -1.0])
    found = detection_rates([one], np.array([0.0, 0.25, 0.5, 0.99, 1.0]))
    assert found.tolist() == [0.25, 0.5, 0.5, 0.5, 1.0]


def test_infinite_clean_scores_hide_nobody_but_the_finite():
    one = faced([np.inf, np.inf, 0.0, 0.0], [np.inf, 1.0])
    assert detection_rates([one], np.array([0.0, 0.5])).tolist() == [0.5, 1.0]


def test_an_roc_of_several_seeds_is_their_mean():
    good, bad = faced([0.0, 1.0], [5.0, 5.0]), faced([0.0, 1.0], [-5.0, -5.0])
    assert detection_rates([good, bad], np.array([0.0, 0.5])).tolist() == [0.5, 0.5]


def test_shares_of_a_histogram_sum_to_what_has_a_score():
    one = faced([0.0, 1.0, 2.0], [1.0, np.inf, 1e9, np.inf], threshold=50.0, noisy=[1.0])
    edges, shares = score_shares(one)
    assert edges[0] < 0.0
    assert edges[-1] > 50.0
    sums = {kind: sum(heights) for kind, heights in shares.items()}
    assert sums == pytest.approx({"clean": 1, "noisy": 1, "adversarial": 0.5})


@pytest.mark.parametrize("clean", [[1.0, 1.0], [np.inf, 3.0], [-np.inf, np.inf]])
def test_scores_that_are_all_alike_or_infinite_have_a_histogram(clean):
    edges, shares = score_shares(faced(clean, [np.inf, np.inf], threshold=math.nan))
    assert np.isfinite(edges).all()
    assert np.all(np.diff(edges) > 0)
    assert sum(shares["clean"]) == pytest.approx(1)


def test_a_ladder_goes_from_who_knows_least_to_who_knows_all():
    order = ("adaptive-whitebox", "limited-knowledge", "blackbox")
    (rungs,) = ladders(places(made(threats=order, eps=(0.1,)))).values()
    assert [place.threat for place in rungs] == ["blackbox", "limited-knowledge", "adaptive-whitebox"]


def test_lines_have_the_tables_numbers_and_intervals(where):
    for rungs in radii(where).values():
        for name, points in worst_lines(rungs, [0, 1]).items():
            for point, place in zip(points, rungs, strict=True):
                entry = place.worst[name]
                assert point[1:] == (entry.sr5, entry.sr5_low, entry.sr5_high, entry.flagged)


def test_a_path_keeps_its_corners_and_drops_what_lies_between():
    frame = Plot(rates("x"), rates("y"), width=114, height=110, left=10, right=4, top=4, bottom=6)
    drawn = frame.line([(0, 0), (0.5, 0), (1, 0), (1, 0), (1, 1)])
    assert drawn == '<path d="M10 104l100 0l0-100"/>'


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_the_image_in_256_levels(channels):
    pixels = np.random.default_rng(0).random((channels, 5, 7), dtype=np.float32)
    kind, _, data = png(pixels).partition(",")
    assert kind == "data:image/png;base64"
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).reshape(5, 7, channels)
    assert np.abs(read.transpose(2, 0, 1) / 255 - pixels).max() <= 0.5 / 255 + 1e-6


def test_a_card_says_what_classifier_and_detector_said():
    run = made(defenses=("kd",), attacks=("pgd",), threats=("adaptive-whitebox",), eps=(0.1,))
    (cell,) = run.cells
    vectors = run.samples[cell.cell]
    page = Page(str(gallery(run)))
    scores = [float(a["data-value"]) for a, _ in page.all("span") if "data-value" in a]
    expected = [[vectors["clean_score"][i], vectors["adversarial_score"][i]] for i in range(6)]
    assert scores == [float(score) for pair in expected for score in pair]
    threshold = np.sort(vectors["calibration_score"])[math.ceil(201 * 0.95) - 1]
    for i, (_, verdict) in enumerate(
        (a, t) for a, t in page.all("p") if "verdict" in a.get("class", "")
    ):
        wrong = vectors["adversarial_prediction"][i] != 0
        accepted = vectors["adversarial_score"][i] <= threshold
        assert verdict.startswith("misclassified" if wrong else "still right")
        assert ("accepted" in verdict) == accepted


def test_a_board_that_keeps_only_s_star_has_a_gallery_too():
    run = made(defenses=("kd",), attacks=("pgd",), threats=("adaptive-whitebox",), eps=(0.1,))
    name = run.cells[0].cell
    kept = ("index", "label", "clean_score", "evasion_score", "calibration_score")
    run = replace(run, samples={name: {k: run.samples[name][k] for k in kept}})
    assert str(gallery(run)).count("<article") == 6
    assert "never misclassified" in render(run)


def test_a_gallery_keeps_to_its_size_and_shows_something_of_many_cells(monkeypatch):
    monkeypatch.setattr(galleries, "BYTES", 40_000)
    run = made(("a", "b", "c"), ("fgsm", "pgd", "cw"), size=16)
    shown = str(gallery(run))
    assert len(shown) < 44_000
    assert {name for name in "abc" if f'data-defense="{name}"' in shown} == {"a", "b", "c"}


def test_there_is_no_gallery_without_pictures():
    assert gallery(replace(made(), images={})) is None


def test_markup_escapes_what_is_not_markup_already():
    assert el("td", "<b>", el("i", "&"), data_value='"', hidden=None) == (
        '<td data-value="&quot;">&lt;b&gt;<i>&amp;</i></td>'
    )
    assert escaped("a\x00\ud800\u202e") == "a\ufffd\ufffd\ufffd"
