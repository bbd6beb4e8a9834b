"""Whoever says that another device made his numbers is held to what comes out here all the same."""

import gzip
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from trusted import edit_lines, from_elsewhere

from nfbench.core.errors import VerificationMismatch
from nfbench.records import CellRecord
from nfbench.report import cells, compact
from nfbench.report.run import read
from nfbench.trust import verify
from nfbench.trust.comparing import require_following
from nfbench.trust.near import require_near

ROW = "kd--pgd--adaptive-whitebox--linf-0.25--seed0"


@pytest.fixture
def away(made):
    """A run directory whose lines name another device."""
    edit_lines(made.run, from_elsewhere)
    return made


def test_an_honest_run_of_another_device_is_re_scored_and_says_that_bits_may_differ(away, tmp_path):
    compact.write(read(away.run), tmp_path / "board")
    for target in (away.run, tmp_path / "board"):
        found = verify(target, away.means)
        assert (found.level, found.exact) == ("re-scored", False)
        assert "other versions or on another kind of processor" in found.notes[0]


def set_metric(name, **changes):
    def change(line):
        line["metrics"][name] = line["metrics"].get(name, {}) | changes

    return change


def lines_of(folder):
    """The lines of a board's results."""
    data = gzip.decompress((folder / "results.jsonl.gz").read_bytes())
    return [json.loads(line) for line in data.splitlines()]


FORGED = {
    "metrics.undefended_error": set_metric("undefended_error", value=0.0, low=0.0, high=0.2),
    "metrics.sr_at_5_fpr_fresh": set_metric("sr_at_5_fpr_fresh", value=0.0, low=0.0, high=0.0),
    "metrics.auroc_worst.flag": set_metric("auroc_worst", flag="upper bound: made up"),
    "health": lambda line: line.update(health={"zero_gradient": 0.0}),
    "winners": lambda line: line.update(winners={"invented": 99}),
    "stages": lambda line: line.update(stages=[]),
    "notes": lambda line: line.update(notes=["checked by everybody"]),
    "status": lambda line: line.update(status="flagged"),
    "counts.more": lambda line: line["counts"].update(more=1),
}


@pytest.mark.parametrize("field", FORGED)
def test_what_no_vector_proves_is_compared_too(away, field):
    def change(line):
        if line["cell"] == ROW:
            FORGED[field](line)

    edit_lines(away.run, change)
    with pytest.raises(VerificationMismatch) as caught:
        verify(away.run, away.means, write=False)
    assert str(caught.value).startswith(f"{ROW}: {field}")


def test_a_forgery_in_which_all_vectors_and_metrics_agree_is_refused(away):
    """One image of each cell is said to have held, and the undefended classifier to be at will."""

    def change(line):
        path = away.run / "samples" / f"{line['cell']}.safetensors"
        vectors = load_file(path)
        vectors["evasion_score"][np.argmin(vectors["evasion_score"])] = np.inf
        save_file(vectors, path)
        record = CellRecord.model_validate(line)
        total = record.counts["undefended"]
        undefended = cells.Undefended(total * (record.defense.name == "kd"), total)
        found = cells.measures(vectors, undefended)
        line["metrics"] |= {name: value.model_dump() for name, value in found.items()}
        line["counts"] = cells.counts(vectors, undefended)
        line |= {"flags": [], "status": "done", "reason": ""}

    edit_lines(away.run, change)
    with pytest.raises(VerificationMismatch, match="metrics"):
        verify(away.run, away.means, write=False)


@pytest.mark.parametrize("field", ["spec", "title", "summary"])
def test_a_run_that_tells_of_itself_what_was_not_asked_for_is_refused(away, field):
    info = json.loads((away.run / "run.json").read_text())
    changed = {"spec": info["spec"] | {"limit": 1}, "title": "Ours", "summary": ["![x](https://x)"]}
    (away.run / "run.json").write_text(json.dumps(info | {field: changed[field]}))
    with pytest.raises(VerificationMismatch, match=rf"run\.json: {field}"):
        verify(away.run, away.means, write=False)


@pytest.mark.parametrize(
    "name", ["clean_accuracy", "rauc", "fpr_realised_at_5", "threshold_at_5", "gain"]
)
def test_metrics_of_a_boards_folder_that_its_vectors_do_not_give_are_compared(away, tmp_path, name):
    folder = tmp_path / "board"
    compact.write(read(away.run), folder)
    lines = lines_of(folder)
    for line in lines:
        value = line["metrics"][name]["value"]
        far = 1 - value if 0 <= value <= 1 and abs(value - 0.5) > 0.1 else value + 3
        line["metrics"][name] = {"value": far, "low": far, "high": far, "flag": ""}
    data = "\n".join(map(json.dumps, lines)).encode()
    (folder / "results.jsonl.gz").write_bytes(gzip.compress(data))
    with pytest.raises(VerificationMismatch, match=rf"metrics\.{name}\.value"):
        verify(folder, away.means, write=False)


def test_intervals_of_the_main_numbers_follow_from_the_vectors_a_board_keeps(away, tmp_path):
    folder = tmp_path / "board"
    compact.write(read(away.run), folder)
    lines = lines_of(folder)
    value = lines[0]["metrics"]["sr_at_5_fpr"]
    value["low"] = value["high"] = value["value"]
    data = "\n".join(map(json.dumps, lines)).encode()
    (folder / "results.jsonl.gz").write_bytes(gzip.compress(data))
    with pytest.raises(VerificationMismatch, match=r"metrics\.sr_at_5_fpr\.low"):
        verify(folder, away.means, write=False)


@pytest.fixture(scope="module")
def record(original):
    return next(cell for cell in read(original.run).cells if cell.cell == ROW)


def test_metrics_of_attacks_that_aim_at_the_threshold_follow_from_their_vectors_as_such(
    original, record
):
    vectors, total = read(original.run).samples[ROW], record.counts["undefended"]
    undefended = cells.Undefended(round(record.metrics["undefended_error"].value * total), total)
    found = cells.measures(vectors, undefended, aims_at_threshold=True)
    aims = record.model_copy(update={"aims_at_threshold": True, "metrics": found})
    require_following(aims, vectors)
    with pytest.raises(VerificationMismatch, match="metrics"):
        require_following(aims.model_copy(update={"aims_at_threshold": False}), vectors)
    with pytest.raises(VerificationMismatch, match="metrics"):
        require_following(record.model_copy(update={"aims_at_threshold": True}), vectors)


def having(record, name, **changes):
    metrics = {**record.metrics, name: record.metrics[name].model_copy(update=changes)}
    return record.model_copy(update={"metrics": metrics})


def near(said, found, *, minimises=False):
    require_near(said, found, minimises=minimises, spread=0.5)


def test_sr_at_5_may_be_lower_by_one_image_and_by_a_tenth_where_the_attack_minimises(record):
    images = 1000
    counted = {"clean": images, "adversarial": images, "undefended": images, "successful": images}
    found = having(record, "sr_at_5_fpr", value=0.9, low=0.9, high=0.9)
    found = found.model_copy(update={"counts": record.counts | counted})
    for fewer, minimises in ((1, False), (100, True)):
        near(having(found, "sr_at_5_fpr", value=0.9 - fewer / images), found, minimises=minimises)
        said = having(found, "sr_at_5_fpr", value=0.9 - (fewer + 1) / images)
        with pytest.raises(VerificationMismatch, match=r"metrics\.sr_at_5_fpr\.value is 0\.[78]"):
            near(said, found, minimises=minimises)
    near(having(found, "sr_at_5_fpr", value=0.92), found)  # to one's own harm


def test_a_flag_that_comes_out_here_may_not_be_missing(record):
    flagged = record.model_copy(update={"flags": ["weak"], "status": "flagged"})
    near(flagged, record)
    with pytest.raises(VerificationMismatch, match="flags is"):
        near(record, flagged)


def test_numbers_that_follow_from_others_must_follow(record):
    for name in ("alarm_precision_1_in_100", "auroc_noisy_oracle_sign"):
        value = record.metrics[name].value
        with pytest.raises(VerificationMismatch, match=rf"metrics\.{name}\.value"):
            near(having(record, name, value=value + 0.001), record)
