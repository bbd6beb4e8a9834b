"""The break-it lane: images alone, judged by a row's own artifacts, only ever lower it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trusted import DAY, LARGER, ROW, STATIC, sent

from nfbench.core.errors import CorruptArtifact, NFBenchError, UsageError, VerificationMismatch
from nfbench.report import board
from nfbench.report.run import read
from nfbench.trust import apply_breaks, break_row, read_breaks
from nfbench.trust.lowering import merged, nothing


def test_better_images_lower_the_row_and_the_larger_balls_and_are_remembered(weak, row, tmp_path):
    folder, means = row
    _, index, images, _, strong = weak
    one = break_row(sent(tmp_path, index, images), ROW, folder, means, date=DAY)
    before = read(folder)
    vectors = before.samples[ROW]
    reached = strong["evasion_score"]
    ordered = np.sort(vectors["calibration_score"])
    tau = ordered[int(np.ceil((len(ordered) + 1) * 0.95)) - 1]
    lowest = np.minimum(vectors["evasion_score"], reached)
    assert one.improved == (reached < vectors["evasion_score"]).sum() > 0
    assert one.sr_at_5_fpr[0] == pytest.approx((vectors["evasion_score"] <= tau).mean())
    assert one.sr_at_5_fpr[1] == pytest.approx((lowest <= tau).mean())
    assert one.sr_at_5_fpr[1] > one.sr_at_5_fpr[0]
    assert one.auroc_worst[1] < one.auroc_worst[0]
    assert (one.date, one.source) == (DAY, "Somebody, https://example.org")
    assert read_breaks(folder) == [one]
    after = apply_breaks(before, folder)
    names = [cell.cell for cell in after.cells[len(before.cells) :]]
    assert names == [name.replace("fgsm", "submitted") for name in (ROW, LARGER)]
    for name, cell in zip((ROW, LARGER), after.cells[len(before.cells) :], strict=True):
        pair = [c for c in after.cells if c.cell == name] + [cell]
        worst, alone = board.worst(after, pair), board.worst(before, pair[:1])
        assert worst.sr5 >= alone.sr5
        assert worst.auroc <= alone.auroc
        assert cell.notes == [one.note]
    assert board.worst(after, [c for c in after.cells if c.cell in (ROW, names[0])]).sr5 == (
        pytest.approx(one.sr_at_5_fpr[1])
    )


def test_the_same_file_again_changes_nothing(weak, row, tmp_path):
    folder, means = row
    _, index, images, _, _ = weak
    path = sent(tmp_path, index, images)
    first = break_row(path, ROW, folder, means, date=DAY)
    kept = {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert break_row(path, ROW, folder, means, date="2026-12-24") == first
    again = break_row(sent(tmp_path, index, images, "Another"), ROW, folder, means, date=DAY)
    assert again.improved == 0
    assert {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == kept


def test_worse_images_change_nothing_and_are_not_written(weak, row, tmp_path):
    folder, means = row
    _, index, _, clean, _ = weak
    images = np.stack([clean[int(i)] for i in index])
    one = break_row(sent(tmp_path, index, images), ROW, folder, means, date=DAY)
    assert (one.fooling, one.improved) == (0, 0)
    assert one.sr_at_5_fpr[0] == one.sr_at_5_fpr[1]
    assert not (folder / "breaks.jsonl").exists()
    assert len(apply_breaks(read(folder), folder).cells) == len(read(folder).cells)


def test_breaks_of_a_few_images_add_up(weak, row, tmp_path):
    folder, means = row
    _, index, images, _, _ = weak
    half = len(index) // 2
    rates = []
    for number, part in enumerate((slice(half), slice(half, None))):
        path = sent(tmp_path, index[part], images[part], name=str(number))
        rates.append(break_row(path, ROW, folder, means, date=DAY).sr_at_5_fpr)
    assert rates[0][1] == rates[1][0]
    shutil.rmtree(folder / "breaks")
    (folder / "breaks.jsonl").unlink()
    whole = break_row(sent(tmp_path, index, images), ROW, folder, means, date=DAY)
    assert (rates[0][0], rates[1][1]) == whole.sr_at_5_fpr


def test_an_image_outside_the_ball_or_the_box_is_refused_by_its_number(weak, row, tmp_path):
    folder, means = row
    _, index, images, clean, _ = weak
    far = images.copy()
    far[3] = np.where(
        clean[int(index[3])] > 0.5, clean[int(index[3])] - 0.11, clean[int(index[3])] + 0.11
    )
    with pytest.raises(VerificationMismatch, match=f"image {index[3]} is 0.11 .*0.1 is allowed"):
        break_row(sent(tmp_path, index, far), ROW, folder, means, date=DAY)
    below = images.copy()
    below[2, 0, 0, 0] = -0.001
    with pytest.raises(VerificationMismatch, match=rf"image {index[2]} has pixels from -0.001"):
        break_row(sent(tmp_path, index, below), ROW, folder, means, date=DAY)
    below[2, 0, 0, 0] = np.nan
    with pytest.raises(VerificationMismatch, match="not finite"):
        break_row(sent(tmp_path, index, below), ROW, folder, means, date=DAY)
    assert not (folder / "breaks.jsonl").exists()


def test_a_file_that_can_not_be_right_is_refused(weak, row, tmp_path):
    folder, means = row
    _, index, images, _, _ = weak
    wrong = {
        "float32": (index, images.astype(np.float64), "a"),
        "int64": (index.astype(np.int32), images, "a"),
        "twice": (np.r_[index[:1], index[:-1]], images, "a"),
        r"C, H, W\) float32": (index, images[1:], "a"),
        "`source`": (index, images, ""),
        "200 characters": (index, images, "x" * 201),
        "one line": (index, images, "a\nb"),
        "is there no image|does not attack": (index + 10**6, images, "a"),
        r"expected float32": (index, images[:, :, :4], "a"),
    }
    for said, (numbers, pixels, source) in wrong.items():
        with pytest.raises(NFBenchError, match=said):
            break_row(sent(tmp_path, numbers, pixels, source), ROW, folder, means, date=DAY)
    with pytest.raises(UsageError, match="nothing else"):
        break_row(sent(tmp_path, index, images, score=index), ROW, folder, means, date=DAY)
    (tmp_path / "x").write_bytes(b"no tensors")
    with pytest.raises(CorruptArtifact, match="no safetensors file"):
        break_row(tmp_path / "x", ROW, folder, means, date=DAY)


def test_a_row_that_can_not_be_broken_is_refused(weak, row, tmp_path):
    folder, means = row
    path = sent(tmp_path, weak[1], weak[2])
    for name, said in (("kd", "no such cell"), (STATIC, "whose attacker knows the victim")):
        with pytest.raises(UsageError, match=said):
            break_row(path, name, folder, means, date=DAY)
    with pytest.raises(UsageError, match="--cache-dir"):
        break_row(path, ROW, folder, replace(means, cache=None), date=DAY)
    with pytest.raises(UsageError, match="no directory"):
        break_row(path, ROW, tmp_path / "x.zip", means, date=DAY)
    with pytest.raises(UsageError, match="--date"):
        break_row(path, ROW, folder, means, date="now")


def test_a_break_that_was_tampered_with_counts_for_nothing(weak, row, tmp_path):
    folder, means = row
    one = break_row(sent(tmp_path, weak[1], weak[2]), ROW, folder, means, date=DAY)
    kept = folder / "breaks" / one.file
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(data)
    with pytest.raises(CorruptArtifact, match=one.file):
        apply_breaks(read(folder), folder)
    line = json.loads((folder / "breaks.jsonl").read_text())
    for change, said in (
        ({"row": 5}, "row"),
        ({"sr_at_5_fpr": "x"}, "sr_at_5_fpr"),
        ({"more": 1}, "more"),
    ):
        (folder / "breaks.jsonl").write_text(json.dumps(line | change) + "\n")
        with pytest.raises(CorruptArtifact, match=f"line 1 is no break: {said}"):
            read_breaks(folder)
    (folder / "breaks.jsonl").write_text(json.dumps(line | {"row": "other"}) + "\n")
    with pytest.raises(CorruptArtifact, match="no finished cell"):
        apply_breaks(read(folder), folder)


scores = st.lists(st.floats(-5, 5, width=32) | st.just(float("inf")), min_size=6, max_size=6)


@given(scores, scores, scores, st.permutations(range(6)))
@settings(max_examples=100, deadline=None)
def test_breaks_only_lower_and_their_order_does_not_matter(start, one, two, order):
    order = np.array(order)
    vectors = {"index": order, "evasion_score": np.array(start, dtype=np.float32)}
    first, second = (
        {"index": np.arange(6), "evasion_score": np.array(s, dtype=np.float32)} for s in (one, two)
    )
    empty = nothing(vectors)
    assert np.isinf(empty["evasion_score"]).all()
    both = merged(merged(vectors, first, "row"), second, "row")["evasion_score"]
    other = merged(merged(vectors, second, "row"), first, "row")["evasion_score"]
    expected = np.minimum(np.minimum(first["evasion_score"], second["evasion_score"])[order], start)
    assert np.array_equal(both, other)
    assert np.array_equal(both, expected.astype(np.float32))
