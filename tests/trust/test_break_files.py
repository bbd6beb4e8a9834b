"""Breaks that lie beside results: checked again by whoever reads or verifies these."""

import json
import shutil
from hashlib import sha256

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from scipy.stats import binomtest
from trusted import DAY, ROW, STATIC, members, repack, sent

from nfbench.core.errors import CorruptArtifact, VerificationMismatch
from nfbench.report.run import read
from nfbench.trust import (
    Means,
    apply_breaks,
    break_row,
    read_breaks,
    read_verification,
    submit,
    verify,
)
from nfbench.trust.lowering import weighed


def rewrite(folder, one, *, vectors=None, drop=(), fitting=True, **changes):
    """Change a break; `fitting`: with rates that follow from its vectors."""
    path = folder / "breaks" / one.file
    held = {name: v for name, v in load_file(path).items() if name not in drop} | (vectors or {})
    path.write_bytes(save(held))
    line = one.model_dump() | {"file_sha256": sha256(path.read_bytes()).hexdigest()} | changes
    if fitting:
        run = read(folder)
        row = next(cell for cell in run.cells if cell.cell == line["row"])
        line |= weighed(run, row, held)
    (folder / "breaks.jsonl").write_text(json.dumps(line) + "\n")


def test_breaks_are_judged_again_when_results_are_re_scored(broken):
    folder, means, one = broken
    images = verify(folder, means, write=False).images
    (folder / "breaks.jsonl").rename(folder / "aside")
    assert verify(folder, means, write=False).images == images - one.images
    (folder / "aside").rename(folder / "breaks.jsonl")
    kept = load_file(folder / "breaks" / one.file)
    far, low = kept["images"].copy(), kept["evasion_score"].copy()
    far[0, 0, 0, 0] = 1 - far[0, 0, 0, 0].round()
    place = int(np.isfinite(low).argmax())
    low[place] -= 0.5
    classes = (kept["adversarial_prediction"] + 1) % 10
    forgeries = {
        r"image \d+ is .* from its original": {"images": far},
        rf"evasion_score\[{place}\] is": {"evasion_score": low},
        r"adversarial_prediction\[0\] is": {"adversarial_prediction": classes},
        "does not attack": {"index": None},
    }
    for said, vectors in forgeries.items():
        if "index" in vectors:
            right = set(read(folder).samples[ROW]["index"].tolist())
            strange = next(i for i in range(10**6) if i not in right)
            vectors = {"index": np.r_[strange, kept["index"][1:]]}  # noqa: PLW2901
            rewrite(folder, one, vectors=kept | vectors, fitting=False)
        else:
            rewrite(folder, one, vectors=kept | vectors)
        with pytest.raises((VerificationMismatch, CorruptArtifact), match=said):
            verify(folder, means, write=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sr_at_5_fpr", [0.0, 1.0]),
        ("sr_at_5_fpr", [None, 0.5]),
        ("auroc_worst", [0.9, 0.1]),
        ("improved", 1),
        ("fooling", 0),
    ],
)
def test_what_a_break_says_that_it_lowered_must_follow_from_its_vectors(broken, field, value):
    folder, _, one = broken
    rewrite(folder, one, fitting=False, **{field: value})
    with pytest.raises(VerificationMismatch, match=f"line 1: {field} is "):
        apply_breaks(read(folder), folder)


def shaped(name, change):
    return lambda kept: {"vectors": {name: change(kept[name])}}


ODD = {
    "lacks images": lambda _: {"drop": ["images"]},
    "lacks evasion_score": lambda _: {"drop": ["evasion_score"]},
    "secrets does not belong": lambda kept: {"vectors": {"secrets": kept["index"]}},
    r"index must be \(k,\) int64": shaped("index", lambda v: v[:9].reshape(3, 3)),
    "index names an image twice": shaped("index", lambda v: np.r_[v[1], v[1:]]),
    r"evasion_score must be \(k,\) float32": shaped("evasion_score", lambda v: v[:9].reshape(3, 3)),
    "evasion_score must be of": shaped("evasion_score", lambda v: v[1:]),
    "numbers that are none": shaped("evasion_score_8bit", lambda v: v * np.float32("nan")),
    "adversarial_prediction must be": shaped("adversarial_prediction", lambda v: v.astype(np.int32)),
    r"images must be \(k, C, H, W\) float32": shaped("images", lambda v: v[:, 0]),
}


@pytest.mark.parametrize("said", ODD)
def test_malformed_vectors_of_a_break_are_refused_in_one_line(broken, said):
    folder, _, one = broken
    kept = load_file(folder / "breaks" / one.file)
    rewrite(folder, one, fitting=False, **ODD[said](kept))
    with pytest.raises(CorruptArtifact, match=said) as caught:
        apply_breaks(read(folder), folder)
    assert "\n" not in str(caught.value)


NAMES = ["a\0.safetensors", "../run.json", "x.safetensors", "0" * 32 + ".safetensors\n", "/etc/passwd"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_break_names_its_file_as_it_was_written(broken, name):
    folder, _, one = broken
    line = one.model_dump() | {"file": name}
    (folder / "breaks.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(CorruptArtifact, match="line 1 is no break: file"):
        read_breaks(folder)


def test_a_break_of_a_row_whose_attacker_does_not_ask_the_victim_is_refused(broken):
    folder, _, one = broken
    rewrite(folder, one, fitting=False, row=STATIC)
    with pytest.raises(CorruptArtifact, match="asks the victim"):
        apply_breaks(read(folder), folder)


def test_cells_of_submitted_images_have_intervals_of_images_alone(broken):
    folder, _, _ = broken
    cell = apply_breaks(read(folder), folder).cells[-2]
    sr5, auroc = cell.metrics["sr_at_5_fpr"], cell.metrics["auroc_worst"]
    images = len(read(folder).samples[ROW]["index"])
    hits = round(sr5.value * images)
    wilson = binomtest(hits, images).proportion_ci(0.95, "wilson")
    assert cell.aims_at_threshold
    assert (sr5.low, sr5.high) == pytest.approx((wilson.low, wilson.high))
    assert auroc.low < auroc.value < auroc.high
    assert cell.metrics["fpr_on_attack_sized_noise_at_5"].value is None
    assert cell.metrics["fpr_on_noise_at_5"].value is not None


def test_what_is_kept_of_a_break_can_be_submitted_anew(broken, weak, tmp_path):
    folder, means, one = broken
    shutil.copytree(weak[0], tmp_path / "fresh")
    again = break_row(folder / "breaks" / one.file, ROW, tmp_path / "fresh", means, date=DAY)
    assert (again.source, again.improved) == (one.source, one.improved)
    assert again.sr_at_5_fpr == one.sr_at_5_fpr


def test_a_break_goes_into_an_archive_and_is_checked_there(broken, tmp_path, registry):
    folder, means, one = broken
    archive = submit(folder, means, tmp_path / "a.nfbench.zip").path
    contents = members(archive)
    assert {"breaks.jsonl", f"breaks/{one.file}"} <= contents.keys()
    assert verify(archive, Means(registry, None, "cpu")).level == "re-scored"
    line = json.loads(contents["breaks.jsonl"]) | {"auroc_worst": [0.9, 0.2]}
    repack(archive, contents | {"breaks.jsonl": json.dumps(line).encode()})
    with pytest.raises(VerificationMismatch, match=r"a\.nfbench\.zip.*auroc_worst"):
        verify(archive, Means(registry, None, "cpu"))


def test_a_break_that_was_judged_here_keeps_the_level_and_another_does_not(weak, row, tmp_path):
    folder, means = row
    assert verify(folder, means).level == "re-scored"
    one = break_row(sent(tmp_path, weak[1], weak[2]), ROW, folder, means, date=DAY)
    assert read_verification(folder).level == "re-scored"
    rewrite(folder, one, source="Another")
    assert read_verification(folder).level == "self-reported"
