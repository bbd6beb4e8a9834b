"""Boards' results folders, other machines, and what the commands say."""

import json
import random
import shutil

import numpy as np
import pytest
from safetensors.numpy import load, save
from trusted import change_tensors, members, repack, run_into

from nfbench.cli import trusting
from nfbench.core.errors import NFBenchError, VerificationMismatch
from nfbench.report import compact
from nfbench.report.run import read
from nfbench.trust import Means, Rerun, apply_breaks, break_row, read_verification, verify

ROW = "max-softmax--fgsm--adaptive-whitebox--linf-0.25--seed0"
SAMPLE = f"samples/{ROW}.safetensors"


@pytest.fixture
def folder(made, tmp_path):
    compact.write(read(made.run), tmp_path / "board")
    return tmp_path / "board"


def test_a_boards_folder_is_re_scored_by_the_archive_of_its_run(folder, made, registry):
    found = verify(folder, Means(registry, None, "cpu", archive=made.archive), date="2026-11-21")
    assert (found.level, found.exact) == ("re-scored", True)
    assert read_verification(folder) == found


def test_a_verification_of_a_run_directory_holds_for_the_boards_folder_made_of_it(folder, made):
    verify(made.run, made.means)
    shutil.copy(made.run / "verification.json", folder)
    assert read_verification(folder).level == "re-scored"


def test_a_boards_folder_with_a_lowered_score_is_caught(folder, made):
    vectors = load((folder / "vectors.safetensors").read_bytes())
    name = next(k for k in sorted(vectors) if k.endswith(".evasion_score"))
    vectors[name] = vectors[name].copy()
    vectors[name][0] = np.inf
    (folder / "vectors.safetensors").write_bytes(save(vectors))
    with pytest.raises(VerificationMismatch, match=r"metrics\.\w+\.value is"):
        verify(folder, made.means)


def test_breaks_lower_a_boards_folder_too(folder, made, tmp_path):
    strong = read(made.run).samples[ROW.replace("fgsm", "pgd")]
    index = strong["index"]
    from sklearn.datasets import load_digits

    digits = (load_digits().images / 16).astype(np.float32)[index][:, None]
    noise = np.random.default_rng(0).choice(np.float32([-0.25, 0.25]), digits.shape)
    images = (digits + noise).clip(0, 1)
    path = tmp_path / "sent.safetensors"
    path.write_bytes(save({"index": index, "images": images}, {"source": "noise"}))
    one = break_row(path, ROW, folder, made.means, date="2026-11-21")
    same = break_row(path, ROW, made.run, made.means, date="2026-11-21")
    assert one == same
    assert one.fooling > 0
    assert len(apply_breaks(read(folder), folder).cells) == 8 + bool(one.improved)


def elsewhere(contents):
    """Results as another kind of processor would have left them."""
    lines = [json.loads(line) for line in contents["results.jsonl"].splitlines()]
    for line in lines:
        line["environment"]["cpu_capability"] = "another"
    contents["results.jsonl"] = ("\n".join(map(json.dumps, lines)) + "\n").encode()
    return contents


def test_scores_from_elsewhere_may_differ_in_the_fourth_digit_and_no_more(made, registry):
    contents, means = elsewhere(members(made.archive)), Means(registry, None, "cpu")
    original = contents[SAMPLE]
    near = change_tensors(original, noisy_l2=lambda v: v * np.float32(1 + 2e-7))
    assert near != original
    repack(made.archive, contents | {SAMPLE: near})
    assert verify(made.archive, means, write=False).exact is False
    far = change_tensors(original, noisy_score=lambda v: v + np.float32(0.01))
    repack(made.archive, contents | {SAMPLE: far})
    with pytest.raises(VerificationMismatch):
        verify(made.archive, means, write=False)


def test_a_repetition_elsewhere_is_compared_with_intervals(made, registry):
    repack(made.archive, elsewhere(members(made.archive)))
    found = verify(made.archive, Means(registry, None, "cpu"), rerun=Rerun(0.1, 1), write=False)
    assert (found.level, found.exact) == ("re-run", False)


WEIRD = [None, True, -1, 10**30, 1e308, "", "\0", "../..", [], {}, [[[]]], {"a": [1]}]


def mangled(value, draw):
    """Plain data with something odd somewhere in it."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        return value | {key: mangled(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        place = draw.randrange(len(value))
        return [*value[:place], mangled(value[place], draw), *value[place + 1 :]]
    return draw.choice(WEIRD)


@pytest.mark.parametrize("seed", range(12))
def test_odd_values_anywhere_are_read_or_refused_in_one_line(made, registry, seed):
    draw, contents = random.Random(seed), members(made.archive)
    name = draw.choice(["results.jsonl", "run.json"])
    lines = contents[name].splitlines() if name == "results.jsonl" else [contents[name]]
    place = draw.randrange(len(lines))
    lines[place] = json.dumps(mangled(json.loads(lines[place]), draw)).encode()
    repack(made.archive, contents | {name: b"\n".join(lines)})
    try:
        verify(made.archive, Means(registry, None, "cpu"), write=False)
    except NFBenchError as error:
        message = str(error)
        assert "\n" not in message


def test_the_commands_say_what_was_packed_checked_and_broken(made, registry, tmp_path, capsys):
    assert trusting.submit_and_say(made.run, made.means, tmp_path / "mine.nfbench.zip") == 0
    assert "8 cells" in capsys.readouterr().out
    means = Means(registry, None, "cpu")
    arguments = {"rerun": Rerun(0.01, 0), "date": "2026-11-21"}
    assert trusting.verify_and_say(made.archive, means, **arguments, as_json=False) == 0
    said = capsys.readouterr().out
    assert "every bit agrees" in said
    assert said.endswith("trust level: re-run\n")
    assert trusting.verify_and_say(made.run, means, rerun=None, date="", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["level"] == "self-reported"
    index = read(made.run).samples[ROW]["index"][:1]
    path = tmp_path / "sent.safetensors"
    images = np.zeros((1, 1, 8, 8), np.float32)
    path.write_bytes(save({"index": index, "images": images}, {"source": "me"}))
    with pytest.raises(VerificationMismatch, match=f"image {index[0]} is "):
        trusting.break_and_say(path, ROW, made.run, made.means, date="2026-11-21")


def test_a_stochastic_detector_and_attacks_on_replicas_are_re_scored(tmp_path, registry):
    two = {"replicas": 2}
    quick = {"training": {"epochs": 1}, "bu": {"passes": 3}}
    quick |= {"limited-knowledge": two, "blackbox": two}
    run = run_into(
        tmp_path,
        registry,
        defense=("bu",),
        attacks=("fgsm",),
        threat_model=("limited-knowledge", "adaptive-whitebox", "blackbox"),
        limit=10,
        settings=quick,
    )
    found = verify(run, Means(registry, tmp_path / "cache", "cpu"))
    assert (found.level, found.exact, found.finished) == ("re-scored", True, 3)
