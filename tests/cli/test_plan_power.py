"""`plan --power`: the images and seeds that tell a difference apart."""

import json

import pytest

PLAN = ["plan", "-d", "kd,lid", "-a", "fgsm"]


def power(nfbench, *more):
    return json.loads(nfbench(*PLAN, *more, "--json").out)


def test_a_smaller_difference_and_more_rows_need_more_images(nfbench):
    coarse, fine = (power(nfbench, "--power", d)["images"]["1"] for d in ("0.2", "0.1"))
    assert fine > 3 * coarse
    wide = json.loads(nfbench("plan", "-d", "kd,lid,bu", "-a", "fgsm", "--power", "0.2", "--json").out)
    assert (wide["pairs"], wide["images"]["1"] > coarse) == (3, True)


def test_a_person_is_told_in_words(nfbench):
    done = nfbench(*PLAN, "--power", "0.1")
    assert "among\none pair of rows" in done.out
    assert "no pilot" in done.out
    assert "One seed speaks of these trained detectors" in done.out


def test_a_pilot_replaces_what_is_assumed(nfbench, elsewhere):
    cells = ["-d", "max-softmax,kd", "-a", "fgsm", "-t", "partial-whitebox", "--eps", "0.1"]
    done = nfbench("run", *cells, "--set", "training.epochs=5", "-o", "r", "-q")
    assert done.code == 0
    found = power(nfbench, "--power", "0.1", "--pilot", "r")
    assert "a pilot of 1 pairs of rows with one seed" in found["basis"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--power", "0"], "a difference of rates lies in (0, 1]"),
        (["--power", "1.5"], "a difference of rates lies in (0, 1]"),
        (["--power", "0.1", "--pilot", "nowhere"], "nowhere is no run directory"),
        (["--pilot", "nowhere"], "--pilot goes with --power"),
    ],
)
def test_what_can_not_be_right_is_one_line(nfbench, flags, why):
    done = nfbench(*PLAN, *flags)
    assert done.code == 2
    assert why in done.complaint
