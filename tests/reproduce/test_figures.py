"""The papers' figures that come from runs: how they are saved, and those of losses."""

import json
import statistics
from collections import Counter

import numpy as np
import pytest
from synthetic import IMAGES, OURS, STATIC, Runs, drawn, everything, not_run, texts

from nfbench.core.errors import UsageError
from nfbench.reproduce.figures.base import FIGURES, Drawing, Figure, draw

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("figure_id", OURS)
def test_a_figure_is_saved_with_its_data_and_what_made_it(figure_id, tmp_path):
    made_by = {"command": "nfbench reproduce x", "scale": "smoke"}
    files = draw(figure_id, everything(), tmp_path / "new", made_by)
    assert [file.name for file in files] == [f"{figure_id}.{kind}" for kind in ("svg", "png", "json")]
    svg, png, record = (file.read_bytes() for file in files)
    assert svg.startswith(b"<?xml")
    assert len(svg) < 300_000
    assert b"<dc:date>" not in svg
    assert png.startswith(b"\x89PNG")
    found = json.loads(record)
    assert list(found) == ["figure", "title", "made_by", "data"]
    assert (found["figure"], found["title"]) == (figure_id, FIGURES[figure_id].title)
    assert found["made_by"] == made_by
    assert found["data"]


def test_the_same_numbers_are_the_same_bytes(tmp_path):
    first, second = (draw("figure7", everything(), tmp_path / name, {}) for name in "ab")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("figure_id", OURS)
def test_no_run_at_all_is_one_line_with_the_command(figure_id, tmp_path):
    with pytest.raises(UsageError, match=f"run nfbench reproduce {figure_id}$"):
        draw(figure_id, Runs(), tmp_path, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("figure_id", OURS)
def test_cells_without_numbers_are_no_run(figure_id, tmp_path):
    failed = Runs()
    for experiment in everything().points:
        failed.add(experiment, "fgsm", status="failed", metrics={})
    with pytest.raises(UsageError, match="nothing to draw"):
        draw(figure_id, failed, tmp_path, {})


def test_figures_are_legible_at_eight_centimetres():
    for figure_id in OURS:
        figure = drawn(figure_id, everything()).figure
        assert figure.get_size_inches()[0] * 2.54 == pytest.approx(8, abs=0.01)
        from matplotlib.text import Text

        assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 6.5


def test_an_unknown_figure_is_told_with_those_there_are(tmp_path):
    with pytest.raises(UsageError, match=r"no figure 'figure1': figure2, .*epfl-number$"):
        draw("figure1", Runs(), tmp_path, {})


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"can't write figures to .*file"):
        draw("figure6", everything(), tmp_path / "file", {})


def test_without_matplotlib_it_is_said_how_to_get_it(tmp_path, without_matplotlib):
    with pytest.raises(UsageError, match=r"pip install 'nfbench\[figures\]'"):
        draw("figure6", everything(), tmp_path, {})


def test_data_has_six_digits_and_null_for_what_is_not_finite(tmp_path, monkeypatch):
    from matplotlib.figure import Figure as Canvas

    data = {"a": {"x": np.array([1 / 3, np.inf, 2]), "n": np.int64(3)}, "b": (np.nan, True, "ε")}
    monkeypatch.setattr(Figure, "load", lambda self: lambda sources: Drawing(Canvas(), data))
    *_, record = draw("figure2", Runs(), tmp_path, {"sizes": {"limit": 3}})
    found = json.loads(record.read_text("utf-8"))
    assert found["data"] == {"a": {"x": [0.333333, None, 2.0], "n": 3}, "b": [None, True, "ε"]}
    assert found["made_by"] == {"sizes": {"limit": 3}}
    assert '   "x": [0.333333, null, 2.0],' in record.read_text("utf-8").splitlines()


def test_figure_4_shows_equal_shares_of_the_five_attacks_as_they_were_scored():
    data = drawn("figure4", everything()).data
    ((_, run),) = everything().runs("cifar10-static")
    cells = {c.attack.name: run.samples[c.cell] for c in run.cells if c.seed == 0}
    test, adversarial = data["test"]["loss"], data["adversarial"]
    assert len(test) == IMAGES
    assert set(test) <= set(cells["fgsm"]["clean_score"])
    assert Counter(adversarial["attack"]) == dict.fromkeys(STATIC, 20)
    rows = list(
        zip(adversarial["attack"], adversarial["loss"], adversarial["misclassified"], strict=True)
    )
    assert len(set(rows)) == 100
    for attack, loss, misclassified in rows:
        own = cells[attack]
        assert (
            misclassified
            == (own["adversarial_prediction"] != 0)[own["adversarial_score"] == loss].item()
        )
    wins = np.mean([loss > clean for loss in adversarial["loss"] for clean in test])
    assert data["auroc_returned"] == pytest.approx(wins)


def test_figure_4_says_how_many_did_not_fool_the_classifier():
    drawing = drawn("figure4", everything())
    still = 100 - int(np.sum(drawing.data["adversarial"]["misclassified"]))
    assert still > 0
    assert f"of which {still} are still classified correctly" in texts(drawing.figure)


def test_figure_4_divides_the_images_among_the_attacks_there_are():
    runs = Runs()
    for attack in ("fgsm", "bim-b", "cw"):
        runs.add("cifar10-static", attack)
    runs.add("cifar10-static", "jsma", defense="lid")
    found = Counter(drawn("figure4", runs).data["adversarial"]["attack"])
    assert found == {"fgsm": 34, "bim-b": 33, "cw": 33}


def test_figure_10_shows_finite_losses_and_how_many_images_have_points():
    runs = Runs()
    lowest = np.where(np.arange(IMAGES) % 3 == 0, np.inf, np.linspace(0.7, 0.95, IMAGES) ** 4)
    clean = np.linspace(0.3, 0.5, IMAGES) ** 2
    vectors = {"evasion_score": lowest, "clean_score": clean}
    runs.add("mnist-random", "random-search", threat="adaptive-whitebox", vectors=vectors, eps=0.3)
    figure, data = drawn("figure10", runs)
    found = data["mnist"]
    assert (found["images"], found["with_points"], len(found["random"])) == (60, 40, 40)
    middle = statistics.median(v for v in lowest if v < 1)
    assert found["ratio_of_medians"] == pytest.approx(middle / statistics.median(clean))
    edges, *heights = found["bins"].values()
    assert [sum(h) for h in heights] == [60, 40]
    assert (edges[0], edges[-1]) == pytest.approx((0.09, max(v for v in lowest if v < 1)))
    assert f"points around 40 of 60 images, median {found['ratio_of_medians']:.1f} × clean" in texts(
        figure
    )
    assert not_run(figure) == [False, True]


def test_figure_10_needs_no_image_to_be_misclassified():
    runs = Runs()
    never = {"evasion_score": np.full(IMAGES, np.inf)}
    runs.add("cifar10-random", "random-search", threat="adaptive-whitebox", vectors=never)
    figure, data = drawn("figure10", runs)
    assert data["cifar10"]["ratio_of_medians"] is None
    assert "points around 0 of 60 images" in texts(figure)


def test_epfls_distributions_are_of_their_attack_and_state_the_accuracy_under_it():
    for figure_id, attack, name in (("epfl-figure4", "fgsm", "FGSM"), ("epfl-figure5", "bim-b", "BIM")):
        figure, data = drawn(figure_id, everything())
        ((_, run),) = everything().runs("epfl-mnist")
        own = [run.samples[c.cell] for c in run.cells if c.attack.name == attack]
        expected = np.concatenate([vectors["adversarial_score"] for vectors in own])
        np.testing.assert_array_equal(data["adversarial"], expected)
        assert data["accuracy_under_attack"]["value"] == pytest.approx(0.05)
        assert f"accuracy under {name} 0.05 [0.03, 0.06]" in texts(figure)
        _, *shares = data["bins"].values()
        assert [sum(share) for share in shares] == pytest.approx([1, 1])


def test_epfls_roc_has_the_areas_in_its_legend():
    shown = texts(drawn("epfl-figure6", everything()).figure)
    assert "FGSM, AUC 0.900 [0.880, 0.910]" in shown
    assert "BIM, AUC 0.900" in shown


def test_data_that_stand_in_are_named():
    runs = Runs()
    runs.add("cifar10-static", "fgsm", dataset={"name": "digits"})
    assert "digits in place of CIFAR-10" in texts(drawn("figure4", runs).figure)
    shown = texts(drawn("figure4", everything()).figure)
    assert "CIFAR-10" in shown
    assert "in place of" not in shown


def test_every_axis_of_a_panel_with_numbers_is_labelled():
    for figure_id in OURS:
        for axes in drawn(figure_id, everything()).figure.axes:
            assert axes.get_ylabel(), figure_id
            assert axes.get_xlabel() or any(t.get_text() for t in axes.get_xticklabels()), figure_id
