"""What moved between two sets of results, and whether by more than chance."""

import json
import subprocess

import numpy as np
import pytest
from results import Results, metrics_of
from scipy.stats import binomtest

from nfbench.boards.diffing import compare, mcnemar
from nfbench.boards.sources import results_of
from nfbench.core.errors import UsageError
from nfbench.report.run import write


def lowered(results, name, share):
    """The same images, of which a share more evade."""
    own = results.samples[name]
    evasion = own["evasion_score"].copy()
    evasion[: int(share * len(evasion))] = 0.01
    results.samples = {**results.samples, name: own | {"evasion_score": evasion}}
    results.change(name, metrics=metrics_of(results.samples[name]))


def test_results_do_not_differ_from_themselves(results):
    found = compare(results.run, results.run)
    assert (found.appeared, found.disappeared, found.restated, found.moved) == ((), (), (), ())
    assert found.same == 16


def test_cells_appear_disappear_and_change_their_status(results):
    before = results.run
    gone = results.cells[0].cell
    results.cells = results.cells[1:]
    results.change(results.cells[0].cell, status="failed", reason="diverged", metrics={})
    new = results.add("bu", "pgd")
    found = compare(before, results.run)
    assert (found.appeared, found.disappeared) == ((new,), (gone,))
    assert found.restated == ((results.cells[0].cell, "done", "failed"),)
    assert found.same == 14


def test_the_largest_change_comes_first_and_only_what_is_more_than_chance_is_significant():
    results = Results().full(defenses=("kd",))
    before = results.run
    small, large = results.cells[1].cell, results.cells[2].cell
    lowered(results, small, 0.06)
    lowered(results, large, 0.9)
    found = compare(before, results.run)
    assert [one.cell for one in found.moved] == [large, small]
    assert [one.sr5.significant for one in found.moved] == [True, False]
    assert found.moved[0].sr5.before == before.cells[2].metrics["sr_at_5_fpr"].value
    assert found.moved[0].sr5.after == results.cells[2].metrics["sr_at_5_fpr"].value
    assert found.moved[0].images == 40


def test_p_is_corrected_for_the_number_of_cells_compared():
    results = Results().full(defenses=("kd",))  # 8 cells
    before = results.run
    lowered(results, results.cells[0].cell, 0.5)
    (one,) = compare(before, results.run).moved
    assert one.sr5.adjusted == pytest.approx(min(1, 8 * one.sr5.p))


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_the_binomial_test_of_the_images_that_differ(seed):
    draws = np.random.default_rng(seed)
    one, other = draws.uniform(size=(2, 60)) < [[0.3], [0.5]]
    differing = int((one != other).sum())
    expected = binomtest(int((one & ~other).sum()), differing).pvalue
    assert mcnemar(one, other) == pytest.approx(expected)
    assert mcnemar(one, one) == 1


def test_without_a_difference_few_cells_are_called_significant():
    draws, found = np.random.default_rng(0), 0
    for _ in range(200):
        one = draws.uniform(size=100) < 0.5
        other = np.where(draws.uniform(size=100) < 0.4, draws.uniform(size=100) < 0.5, one)
        found += mcnemar(one, other.astype(bool)) < 0.05
    assert found <= 16


def test_images_are_paired_by_their_place_in_the_dataset_not_by_row(results):
    before = results.run
    name = results.cells[0].cell
    turned = {k: v[::-1] if k != "calibration_score" else v for k, v in results.samples[name].items()}
    results.samples = {**results.samples, name: {k: v.copy() for k, v in turned.items()}}
    other = results.run
    results.change(results.cells[0].cell, metrics=metrics_of(results.samples[name]))
    (found,) = [compare(before, other)]
    assert found.moved == ()
    assert found.same == 16


def test_other_data_are_told_and_not_tested(results):
    before = results.run
    name = results.cells[0].cell
    lowered(results, name, 0.9)
    results.change(name, dataset={"sha256": "0" * 64})
    (one,) = compare(before, results.run).moved
    assert one.sr5.p is None
    assert not one.sr5.significant
    assert one.notes == ("other data, so not tested",)


def test_a_source_is_a_run_a_folder_or_a_board(results, declare, tmp_path):
    board = declare(results.run)
    write(tmp_path / "run", results.run)
    home = board.path.parent
    for source in (tmp_path / "run", board.results, "mine", board.path):
        assert len(results_of(str(source), home).cells) == 16


def test_a_revision_of_a_results_folder_can_be_compared(results, declare, tmp_path, monkeypatch):
    board = declare(results.run)
    monkeypatch.chdir(tmp_path)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "results"]):
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *author, *command], check=True, capture_output=True)
    found = results_of("HEAD:leaderboards/mine", board.path.parent)
    assert [c.cell for c in found.cells] == [c.cell for c in results.cells]
    with pytest.raises(UsageError, match="git has no nowhere:leaderboards/mine"):
        results_of("nowhere:leaderboards/mine", board.path.parent)
    with pytest.raises(UsageError, match="no git revision"):
        results_of("--output=x:leaderboards/mine", board.path.parent)


def test_an_unknown_source_is_told_with_the_nearest_board(declare):
    board = declare()
    with pytest.raises(UsageError, match=r"'mien' is no run directory.*did you mean 'mine'"):
        results_of("mien", board.path.parent)


def test_everything_is_plain_data(results):
    from nfbench.cli.boards import _json

    before = results.run
    lowered(results, results.cells[0].cell, 0.9)
    found = json.loads(_json(compare(before, results.run)))
    assert found["moved"][0]["sr5"]["significant"] is True
