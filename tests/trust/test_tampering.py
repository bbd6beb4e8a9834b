"""What somebody changed in an archive is refused by name, however well the change is signed."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load
from trusted import artifact_of, change_tensors, members, repack

from nfbench.core.errors import NFBenchError, VerificationMismatch
from nfbench.records import CellRecord
from nfbench.report import cells
from nfbench.trust import Means, verify

ROW = "max-softmax--pgd--adaptive-whitebox--linf-0.25--seed0"
SAMPLE = f"samples/{ROW}.safetensors"


@pytest.fixture
def means(registry):
    return Means(registry, None, "cpu")


def complaint(made, means):
    """Exit code and message of a verification that must fail, and leave no verdict."""
    with pytest.raises(NFBenchError) as caught:
        verify(made.archive, means)
    assert not made.archive.with_name("run.verification.json").exists()
    return caught.value.exit_code, str(caught.value)


def edit_record(contents, change, row=ROW):
    """Change the line of a cell; all else stays as it was."""
    lines = [json.loads(line) for line in contents["results.jsonl"].splitlines()]
    for line in lines:
        if line["cell"] == row:
            change(line)
    contents["results.jsonl"] = ("\n".join(map(json.dumps, lines)) + "\n").encode()


def with_metrics(contents, vectors):
    """The record of a cell made anew from its vectors, so that they agree."""

    def change(line):
        record = CellRecord.model_validate(line)
        total = record.counts["undefended"]
        fooled = round(record.metrics["undefended_error"].value * total)
        found = cells.measures(vectors, cells.Undefended(fooled, total))
        line["metrics"] |= {k: v.model_dump() for k, v in found.items()}
        line["counts"] = cells.counts(vectors, cells.Undefended(fooled, total))

    edit_record(contents, change)


KINDS = ["run.json", "results.jsonl", SAMPLE, "manifest of an artifact", "tensors of an artifact"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_member_of_any_kind_is_named(made, means, kind):
    contents = members(made.archive)
    tensors = artifact_of(contents, kind="craft")
    name = {
        "manifest of an artifact": tensors.replace("tensors.safetensors", "manifest.json"),
        "tensors of an artifact": tensors,
    }.get(kind, kind)
    data = bytearray(contents[name])
    data[len(data) // 2] ^= 1
    repack(made.archive, contents | {name: bytes(data)}, signed=False)
    code, message = complaint(made, means)
    assert code == 5
    assert name in message
    assert "changed" in message


def test_a_member_that_was_taken_out_or_put_in_is_named(made, means):
    contents = members(made.archive)
    repack(made.archive, {k: v for k, v in contents.items() if k != SAMPLE}, signed=False)
    assert SAMPLE in complaint(made, means)[1]
    repack(made.archive, contents | {"samples/more.safetensors": b""}, signed=False)
    assert "samples/more.safetensors" in complaint(made, means)[1]


def far(images):
    images[2, 0, 0, 0] = 1 - images[2, 0, 0, 0].round()
    return images


def bright(images):
    images[1, 0, 3, 3] = 1.001
    return images


def broken(images):
    images[0, 0, 3, 3] = np.nan
    return images


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": far}, r"image \d+ is [0-9.]+ from its original in linf, 0.25 is allowed"),
        ({"images": bright}, r"pixels from 0 to 1.001, outside \[0, 1\]"),
        ({"images": broken}, "not finite"),
        ({"images": lambda x: x.astype(np.float64)}, "expected float32"),
        ({"images": lambda x: x[:, :, :4]}, "expected float32"),
        ({"images": lambda x: x[::-1].copy()}, "from its original"),
        ({"index": lambda i: i[1:]}, "index does not list"),
        ({"label": lambda y: (y + 1) % 10}, "label has other classes"),
    ],
)
def test_images_no_attack_may_have_made_are_refused(made, means, change, said):
    contents = members(made.archive)
    name = artifact_of(contents, kind="craft", attack="pgd", threat_model="adaptive-whitebox")
    repack(made.archive, contents | {name: change_tensors(contents[name], **change)})
    code, message = complaint(made, means)
    assert code == 5
    assert name.split("/")[1] in message
    assert re.search(said, message)


def test_dropping_the_images_that_an_attack_broke_is_refused(made, means):
    contents = members(made.archive)
    for name in [n for n in contents if n.endswith("tensors.safetensors")]:
        arrays = load(contents[name])
        if "images" in arrays:
            keep = np.arange(len(arrays["index"])) >= 5
            cut = {k: lambda v, keep=keep: v[keep] for k in arrays}
            contents[name] = change_tensors(contents[name], **cut)
    repack(made.archive, contents)
    assert "images that are attacked" in complaint(made, means)[1]


def test_a_metric_that_does_not_follow_from_its_vectors_is_named_with_both_values(made, means):
    contents = members(made.archive)

    def better(line):
        line["metrics"]["sr_at_5_fpr"] |= {"value": 0.125, "low": 0.0, "high": 0.5}

    edit_record(contents, better)
    repack(made.archive, contents)
    code, message = complaint(made, means)
    assert code == 5
    assert message.startswith(f"{ROW}: metrics.sr_at_5_fpr.value is 0.125 in the results, and ")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("evasion_score", lambda v: v + np.float32(0.5)),
        ("evasion_score", lambda v: np.full_like(v, np.inf)),
        ("adversarial_score", lambda v: np.nextafter(v, np.float32(9))),
        ("adversarial_prediction", lambda v: (v + 1) % 10),
        ("clean_score", lambda v: v - np.float32(1)),
        ("calibration_score", lambda v: v - np.float32(1)),
    ],
)
def test_vectors_and_metrics_that_agree_and_were_made_up_are_caught_by_re_scoring(
    made, means, name, change
):
    contents = members(made.archive)
    contents[SAMPLE] = change_tensors(contents[SAMPLE], **{name: change})
    with_metrics(contents, load(contents[SAMPLE]))
    repack(made.archive, contents)
    code, message = complaint(made, means)
    assert code == 5
    assert message.startswith(f"{ROW}: {name}[")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("attack.params.steps", lambda line: line["attack"]["params"].update(steps=1000)),
        ("defense.name", lambda line: line["defense"].update(name="kd")),
        ("eps", lambda line: line.update(eps=0.5)),
        ("dataset.sha256", lambda line: line["dataset"].update(sha256="0" * 64)),
        ("status", lambda line: line.update(status="flagged", flags=["odd"])),
        ("inputs", lambda line: line["inputs"].__setitem__(1, "0" * 64)),
    ],
)
def test_what_a_line_says_of_itself_must_be_what_was_asked_for(made, means, field, change):
    contents = members(made.archive)
    edit_record(contents, change)
    repack(made.archive, contents)
    code, message = complaint(made, means)
    assert code == 5
    assert message.startswith(f"{ROW}: {field} is ")


def test_cells_that_are_missing_or_that_nobody_asked_for_are_named(made, means):
    contents = members(made.archive)
    lines = contents["results.jsonl"].splitlines()
    without = b"\n".join(line for line in lines if ROW.encode() not in line) + b"\n"
    repack(made.archive, contents | {"results.jsonl": without})
    assert f"{ROW} was asked for" in complaint(made, means)[1]
    edit_record(contents, lambda line: line.update(cell="mine"))
    contents["samples/mine.safetensors"] = contents[SAMPLE]
    repack(made.archive, contents)
    assert "was asked for" in complaint(made, means)[1]


def test_a_cell_that_can_be_run_may_not_be_called_impossible(made, means):
    contents = members(made.archive)
    edit_record(contents, lambda line: line.update(status="skipped", reason="needs gradient access"))
    del contents[SAMPLE]
    repack(made.archive, contents)
    assert complaint(made, means)[1].startswith(f"{ROW}: reason is 'needs gradient access'")


def test_another_classifier_than_the_one_attacked_is_noticed(made, means):
    contents = members(made.archive)
    name = artifact_of(contents, kind="train")
    first = sorted(load(contents[name]))[0]
    contents[name] = change_tensors(contents[name], **{first: lambda w: w + np.float32(0.1)})
    repack(made.archive, contents)
    assert complaint(made, means)[0] == 5


def test_pictures_of_other_images_than_were_scored_are_refused(made, means):
    contents = members(made.archive)
    pictures = contents["gallery.safetensors"]
    name = next(k for k in sorted(load(pictures)) if "adversarial" in k)
    contents["gallery.safetensors"] = change_tensors(pictures, **{name: lambda x: 1 - x})
    repack(made.archive, contents)
    assert "pictures" in complaint(made, means)[1]


def test_undefended_errors_are_counted_from_predictions_made_again(made, means):
    contents = members(made.archive)
    name = artifact_of(contents, kind="craft", attack="pgd", threat_model="partial-whitebox")
    contents[name] = change_tensors(contents[name], prediction=lambda y: (y + 1) % 10)
    repack(made.archive, contents)
    assert "prediction[0] is" in complaint(made, means)[1]


def test_a_run_of_other_jobs_or_other_data_says_so(made, means):
    contents = members(made.archive)
    for key, said in (("plan", "plan is"), ("options", "options.defense"), ("spec", "data_sha256")):
        info = json.loads(contents["run.json"])
        info[key] = {"plan": "0" * 12, "options": {"limit": "x"}, "spec": {}}[key]
        repack(made.archive, contents | {"run.json": json.dumps(info).encode()})
        assert said in complaint(made, means)[1]


def test_results_that_were_changed_after_a_verification_lose_its_level(made):
    from nfbench.trust import read_verification

    assert verify(made.run, made.means).level == "re-scored"
    with (made.run / "results.jsonl").open("ab") as file:
        file.write(b"\n")
    said = read_verification(made.run)
    assert said.level == "self-reported"
    assert "changed" in said.notes[0]


def test_a_mismatch_is_an_error_with_exit_code_5():
    assert VerificationMismatch("x").exit_code == 5
