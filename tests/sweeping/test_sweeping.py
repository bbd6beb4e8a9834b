"""A sweep is its points' own runs, with what they share made once."""

import numpy as np
import pytest

from nfbench.core.errors import DataMissing, UsageError
from nfbench.report.run import read
from nfbench.runner import jobs as jobs_module
from nfbench.session import Place, execute
from nfbench.sweeping import points, unroll
from nfbench.sweeping.rows import NOT_RUN, Column
from nfbench.sweeping.running import planned

FGSM = Column("partial-whitebox", "fgsm", "linf ≤ 0.25")


def numbers(swept, column=FGSM):
    """AUROC and SR@5 % of each row."""
    entries = [row.entries[column] for _, row in swept.lines()]
    return [(entry.auroc, entry.sr5) for entry in entries]


def test_each_point_has_the_numbers_of_a_run_of_its_own(go, small, registry, notes, tmp_path):
    vary = ["fingerprints=2,4", "size=0.01,0.2"]
    swept = go(small(), *vary)
    alone = []
    for i, (_, options) in enumerate(points(small(), vary, registry)):
        place = Place(tmp_path / f"alone{i}", tmp_path / f"cache{i}", "cpu")
        ((cell,),) = [execute(options, place, registry, notes).run.cells]
        alone.append(cell.metrics)
    found = [(m["auroc_worst"].value, m["sr_at_5_fpr"].value) for m in alone]
    assert numbers(swept) == found
    assert len(set(found)) == 4
    facts = [(row.accuracy, row.alarms) for _, row in swept.lines()]
    assert facts == [(m["clean_accuracy"], m["fpr_realised_at_5"]) for m in alone]
    spans = [row.entries[FGSM] for _, row in swept.lines()]
    assert [(e.auroc_low, e.sr5_high) for e in spans] == [
        (m["auroc_worst"].low, m["sr_at_5_fpr"].high) for m in alone
    ]


def test_points_lie_in_directories_of_their_own_that_say_which_they_are(go, small, tmp_path):
    swept = go(small(), "fingerprints=2,4", "size=0.01")
    folders = [result.folder for result in swept.results]
    assert folders == ["fingerprints=2--size=0.01", "fingerprints=4--size=0.01"]
    for result in swept.results:
        run = read(tmp_path / "out" / result.folder)
        assert run.cells[0].defense.params["fingerprints"] == result.values["neuralfp.fingerprints"]
        assert run.info["command"] == "the command"
        assert run.info["plan"] == result.plan


@pytest.mark.parametrize(
    ("vary", "folders"),
    [
        (["dy_on=-0.5,none"], ["dy_on=-0.5", "dy_on=none"]),
        (["loss='mean','sum'"], ["loss=mean", "loss=sum"]),
        (["size=0.10000001,0.10000002"], ["size=0.1", "size=0.1-2"]),
        (["learns_from=fgsm,pgd"], ["learns_from=fgsm", "learns_from=pgd"]),
    ],
)
def test_names_of_directories_are_short_and_differ(registry, small, vary, folders):
    assert planned(unroll(small(), vary, registry)).folders == folders


def test_a_long_name_is_a_number(registry, small):
    vary = [f"{name}=1" for name in ("fingerprints", "alpha", "secret", "size", "shift")]
    vary += [
        f"training.{name}=1" for name in ("learning_rate", "momentum", "weight_decay", "batch_size")
    ]
    assert planned(unroll(small(), vary, registry)).folders == ["point-1"]


def test_what_points_share_is_made_once_and_told_as_a_whole(go, small, notes):
    go(small(), "fingerprints=2,4")
    kinds = [label.split(" · ", 1)[1] for label in notes.labels]
    assert notes.totals == [len(notes.labels)]
    assert sum("train digits-mlp (" in kind for kind in kinds) == 1
    assert sum("train digits-mlp with neuralfp" in kind for kind in kinds) == 2
    assert notes.notes == ["point 1/2: fingerprints=2", "point 2/2: fingerprints=4"]
    assert {label.split(" · ")[0] for label in notes.labels} == {"point 1/2", "point 2/2"}


def test_a_second_sweep_makes_nothing_and_says_the_same(go, small, notes):
    first = go(small(), "fingerprints=2,4")
    done = len(notes.labels)
    second = go(small(), "fingerprints=2,4", out="again")
    assert first.ran == done
    assert (second.ran, len(notes.labels), len(notes.totals)) == (0, done, 1)
    assert numbers(second) == numbers(first)


def test_seeds_are_averaged_with_an_interval_over_seeds(go, small, tmp_path):
    swept = go(small(seed=(0, 1, 2), limit=60), "fingerprints=2")
    ((_, row),) = swept.lines()
    cells = read(tmp_path / "out" / swept.results[0].folder).cells
    values = [cell.metrics["auroc_worst"].value for cell in cells]
    assert len(set(values)) == 3
    entry = row.entries[FGSM]
    assert entry.auroc == pytest.approx(np.mean(values), rel=1e-5)
    spread = 4.303 * np.std(values, ddof=1) / np.sqrt(3)  # Student's 97.5 % quantile, two degrees
    assert entry.auroc_high - entry.auroc_low >= min(spread, 0.5)
    accuracies = [cell.metrics["clean_accuracy"].value for cell in cells]
    assert row.accuracy.value == pytest.approx(np.mean(accuracies), rel=1e-5)
    assert row.accuracy.low < min(accuracies)


def test_a_dataset_that_varies_is_read_for_each_point(go, small, registry, notes, tmp_path):
    options = small(dataset="tinted:Tinted", defense=("max-softmax",))
    swept = go(options, "tint=0.2,0.9")
    (_, (values, last)) = points(options, ["tint=0.2,0.9"], registry)
    alone = execute(last, Place(tmp_path / "a", tmp_path / "b", "cpu"), registry, notes)
    assert values == {"tinted.tint": 0.9}
    assert swept.lines()[1][1].accuracy == alone.run.cells[0].metrics["clean_accuracy"]
    assert numbers(swept)[0] != numbers(swept)[1]


def test_several_defenses_have_a_row_each_at_each_point(go, small):
    swept = go(small(defense=("random", "max-softmax")), "epochs=1,2")
    told = [(result.values["training.epochs"], row.defense) for result, row in swept.lines()]
    assert sorted(told) == [(n, d) for n in (1, 2) for d in ("max-softmax", "random")]
    assert sorted(swept.defenses) == ["max-softmax", "random"]


def failing(monkeypatch, kind, when, error):
    """Let some jobs of a kind fail."""
    real = jobs_module._RUN[kind]

    def run(job, *rest):
        if when(job.recipe):
            raise error
        return real(job, *rest)

    monkeypatch.setitem(jobs_module._RUN, kind, run)


def is_of(fingerprints):
    return lambda recipe: recipe.get("defense", {}).get("fingerprints") == fingerprints


def test_a_point_that_fails_says_why_and_the_others_go_on(go, small, monkeypatch):
    failing(monkeypatch, "fit", is_of(3), RuntimeError("stumbled"))
    swept = go(small(), "fingerprints=2,3,4")
    assert [result.status for result in swept.results] == ["done", "failed", "done"]
    (reason,) = swept.results[1].reasons
    assert reason.startswith("1 cell failed: ")
    assert reason.endswith("RuntimeError: stumbled")
    assert [swept.entry(*line, FGSM).text for line in swept.lines()][1] == "failed"
    assert swept.lines()[1][1].accuracy.value is None


def test_an_interruption_keeps_what_is_done_and_the_same_sweep_goes_on(go, small, monkeypatch, notes):
    with monkeypatch.context() as patch:
        failing(patch, "fit", is_of(3), KeyboardInterrupt())
        broken = go(small(), "fingerprints=2,3,4")
    assert broken.interrupted
    assert [result.status for result in broken.results] == ["done", NOT_RUN, NOT_RUN]
    shown = [broken.entry(*line, FGSM) for line in broken.lines()]
    assert [entry.text for entry in shown[1:]] == [NOT_RUN, NOT_RUN]
    before = len(notes.labels)
    whole = go(small(), "fingerprints=2,3,4")
    assert not whole.interrupted
    assert whole.ran == len(notes.labels) - before
    assert numbers(whole)[0] == (shown[0].auroc, shown[0].sr5)
    assert all("point 1/3" not in label for label in notes.labels[before:])


def test_after_an_interruption_points_that_are_done_already_are_shown(go, small, monkeypatch):
    go(small(), "fingerprints=4")
    failing(monkeypatch, "fit", is_of(2), KeyboardInterrupt())
    swept = go(small(), "fingerprints=2,3,4")
    assert [result.status for result in swept.results] == [NOT_RUN, NOT_RUN, "done"]


def test_a_point_of_which_part_is_done_is_incomplete(go, small, monkeypatch):
    failing(monkeypatch, "craft", lambda recipe: recipe["attack"]["name"] == "pgd", KeyboardInterrupt())
    swept = go(small(attacks=("fgsm", "pgd")), "fingerprints=2")
    (result,) = swept.results
    assert result.status == "incomplete"
    assert list(result.reasons) == ["1 cell skipped: interrupted before it ran"]
    assert result.rows[0].entries[FGSM].sr5 is not None


def test_a_point_that_can_not_be_done_is_skipped(go, small):
    swept = go(small(eps=("inf",)), "fingerprints=2,3")
    assert [result.status for result in swept.results] == ["skipped", "skipped"]
    assert "fgsm needs a bound" in swept.results[0].reasons[0]
    assert swept.columns == []


@pytest.mark.parametrize(
    ("changes", "vary", "error", "why"),
    [
        ({}, ["fingerprints=2,0"], UsageError, "fingerprints = 0"),
        ({"defense": ("kd",)}, ["layer=none,nonsense"], UsageError, "nonsense"),
        ({"dataset": "npz"}, ["fingerprints=2"], DataMissing, "npz needs a file"),
    ],
)
def test_a_mistake_in_any_point_stops_the_sweep_before_any_work(
    go, small, notes, tmp_path, changes, vary, error, why
):
    with pytest.raises(error, match=why):
        go(small(**changes), *vary)
    assert notes.labels == []
    assert not (tmp_path / "out").exists()


def test_data_that_goes_missing_stops_the_sweep_before_any_work(go, small, notes, tmp_path, monkeypatch):
    from tinted import Tinted

    real = Tinted.splits

    def splits(self, data_dir):
        if self.tint > 0.5:
            raise DataMissing("gone")
        return real(self, data_dir)

    monkeypatch.setattr(Tinted, "splits", splits)
    with pytest.raises(DataMissing, match="gone"):
        go(small(dataset="tinted:Tinted", defense=("random",)), "tint=0.2,0.9")
    assert notes.labels == []
    assert not (tmp_path / "out").exists()


def test_another_statistic_is_shown_where_it_is_asked_for(go, small, tmp_path):
    swept = go(small(), "fingerprints=2", statistic="auroc_returned")
    (cell,) = read(tmp_path / "out" / swept.results[0].folder).cells
    assert numbers(swept)[0][0] == cell.metrics["auroc_returned"].value
    with pytest.raises(UsageError, match="unknown statistic 'auroc_wurst'"):
        go(small(), "fingerprints=2", statistic="auroc_wurst")


def test_each_warning_is_given_once(go, small, notes):
    go(small(eps=("0.1", "l2=1")), "fingerprints=2,3")
    assert len(notes.warnings) == 1
    assert "no attack is measured in l2" in notes.warnings[0]
