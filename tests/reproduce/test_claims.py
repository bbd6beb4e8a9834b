"""The papers as data: every number is there, and a scale changes sizes and nothing else."""

import re
import statistics

import pytest

from nfbench.cli.options import read_config
from nfbench.core.errors import UsageError
from nfbench.reproduce.configs import configuration
from nfbench.reproduce.paper import SCALES, papers, parsed
from nfbench.reproduce.scaling import settle
from nfbench.reproduce.selecting import choose
from nfbench_attacks.gamma import TRIALS

NEURALFP, EPFL = papers()
CLAIMS = {claim.id: claim for paper in papers() for claim in paper.claims}
STATIC = ("fgsm", "jsma", "bim-a", "bim-b", "cw")


def row(table, defense):
    return [100 * CLAIMS[f"{table}.{defense}.{attack}"].value for attack in STATIC]


def test_the_papers_are_two():
    assert (NEURALFP.id, EPFL.id) == ("neuralfp", "epfl")


def test_every_cell_of_every_table_is_a_claim():
    cells = {
        "table2": 12,
        "table4": 50,
        "table5": 2,
        "table6": 10,
        "table10": 20,
        "table11": 2,
        "table13": 6,
        "table14": 7,  # with the mean distortions, and N = 50 from the text
        "table15": 3,
    }
    assert {t: sum(name.startswith(f"{t}.") for name in CLAIMS) for t in cells} == cells


@pytest.mark.parametrize(
    ("table", "other", "gap"), [("table4.cifar10", "lid", 11.77), ("table10.cifar10", "lid", 7.866)]
)
def test_the_rows_amount_to_what_the_text_says(table, other, gap):
    mean = statistics.mean(row(table, "neuralfp")) - statistics.mean(row(table, other))
    assert mean == pytest.approx(gap, abs=0.005)


def test_neuralfp_has_the_same_row_in_both_tables():
    for dataset in ("mnist", "cifar10"):
        assert row(f"table4.{dataset}", "neuralfp") == row(f"table10.{dataset}", "neuralfp")


@pytest.mark.parametrize(
    ("experiment", "number", "size"),
    [
        ("mnist-adaptive", 10, 0.1),
        ("mnist-adaptive-20", 20, 0.05),
        ("mnist-adaptive-cw", 20, 0.05),
        ("mnist-blackbox", 10, 0.03),
        ("mnist-random", 10, 0.1),
        ("cifar10-static", 30, 0.003),
        ("cifar10-adaptive", 30, 0.003),
        ("cifar10-cw-3", 50, 0.003),
        ("cifar10-random-sign", 30, 0.05),
        ("imagenet20-static", 20, 0.05),
    ],
)
def test_the_fingerprints_are_those_of_the_paper(experiment, number, size):
    for scale in SCALES:
        chosen = settle(NEURALFP, experiment, scale).entries["set"]["neuralfp"]
        assert (chosen["fingerprints"], chosen["eps"]) == (number, size)


def test_at_full_scale_attacks_have_the_settings_of_table_12():
    for dataset, step in (("mnist", 0.010), ("cifar10", 0.005)):
        static = settle(NEURALFP, f"{dataset}-static", "full").entries["set"]
        assert static["bim-b"] == static["bim-a"] == {"steps": 50, "step": step}
        assert static["cw"]["binary_search_steps"] == 9
        assert static["cw"]["steps"] == 1000
        assert static["cw"]["initial_const"] == 1e-3
    for name in ("mnist-adaptive-cw", "cifar10-adaptive"):
        assert settle(NEURALFP, name, "full").entries["set"]["cw-fp"] == {
            "binary_search_steps": 9,
            "gamma2_steps": 5,
            "steps": 1000,
            "initial_gamma1": 1e-3,
            "initial_gamma2": 0.1,
            "learning_rate": 0.01,
            "kappa": 0.0,
            "target": "random",
        }
    for name in ("mnist-adaptive", "cifar10-adaptive"):
        wanted = {"steps": 100, "samples": 128, "delta": 0.01, "learning_rate": 0.01}
        assert settle(NEURALFP, name, "full").entries["set"]["spsa"] == wanted


def test_table_11_is_fgsm_made_on_one_undefended_replica():
    for dataset, eps in (("mnist", 0.4), ("cifar10", 0.05)):
        entries = settle(NEURALFP, f"{dataset}-blackbox", "full").entries
        assert (entries["attacks"], entries["eps"]) == (["fgsm"], [f"linf={eps}"])
        assert "blackbox" in entries["threat-model"]
        assert entries["set"]["blackbox"] == {"replicas": 1}


def test_table_13_has_all_rows_with_steps_in_pixel_units():
    rows = []
    for number in range(1, 7):
        entries = settle(NEURALFP, f"cifar10-pgd-{number}", "full").entries
        (attack,), (bound,) = entries["attacks"], entries["eps"]
        norm, _, radius = bound.partition("=")
        pgd = entries["set"][attack]
        assert pgd["schedule"] == "constant"
        assert norm == ("l2" if attack == "pgd-l2" else "linf")
        step = round(pgd["step"] * eval(radius), 9)
        rows.append((norm, radius, pgd["restarts"], pgd["steps"], step))
    assert rows == [
        ("linf", "16/255", 1, 1000, 0.005),
        ("linf", "16/255", 50, 50, 0.005),
        ("linf", "0.25", 1, 1000, 0.005),
        ("linf", "1.0", 5, 150, 0.005),
        ("l2", "10", 5, 100, 0.5),
        ("l2", "60", 5, 150, 0.5),
    ]
    assert TRIALS == 6  # the column of bisections


def test_table_14_has_all_rows():
    rows = []
    for number in (1, 2, 3):
        entries = settle(NEURALFP, f"cifar10-cw-{number}", "full").entries
        cw = entries["set"]["cw-fp"]
        schedule = (cw["steps"], cw["binary_search_steps"], cw["gamma2_steps"], cw["target"])
        rows.append((entries["set"]["neuralfp"]["fingerprints"], *schedule, entries["limit"]))
    assert rows == [
        (30, 20_000, 20, 10, "random", 112),
        (30, 15_000, 15, 9, "random", 64),
        (50, 20_000, 20, 10, "random", 64),
    ]


def test_table_15_has_all_rows():
    rows = []
    for number in (1, 2, 3):
        entries = settle(NEURALFP, f"cifar10-spsa-{number}", "full").entries
        spsa = entries["set"]["spsa"]
        rows.append((spsa["steps"], entries["eps"], spsa["learning_rate"], spsa["delta"]))
    assert rows == [
        (1000, ["linf=0.05"], 0.01, 0.01),
        (1000, ["linf=0.05"], 0.005, 0.005),
        (1000, ["linf=0.25"], 0.01, 0.01),
    ]


@pytest.mark.parametrize("paper", papers(), ids=lambda paper: paper.id)
def test_tables_of_adaptive_attacks_have_the_paper_s_attacker(paper):
    for claim in paper.claims:
        if re.match(r"table(6|13|14|15)\.", claim.id) and claim.experiment:
            entries = settle(paper, claim.experiment, "full").entries
            assert entries["threat-model"] == ["paper-adaptive"], claim.id


SIZES = {
    "limit",
    "train-limit",
    "seed",
    "vary",
    "training.epochs",
    "training.images",
    "training.precision",
}


@pytest.mark.parametrize("paper", papers(), ids=lambda paper: paper.id)
def test_a_scale_changes_sizes_and_nothing_else(paper):
    sizes = SIZES | {
        f"{a}.{b}" for a in ("cw", "cw-fp", "cw-fp-one") for b in ("steps", "binary_search_steps")
    }
    sizes |= {"cw-fp.gamma2_steps", "spsa.steps", "spsa.samples", "bim-a.steps", "bim-b.steps"}
    sizes |= {"pgd.steps", "pgd.restarts", "pgd-l2.steps", "pgd-l2.restarts", "random-search.points"}
    sizes |= {"detector-breaker.budget", "imagefolder.size"}
    for name in paper.experiment:
        full, *others = (flat(settle(paper, name, scale).entries) for scale in reversed(SCALES))
        for other in others:
            changed = {key for key in full.keys() | other.keys() if full.get(key) != other.get(key)}
            assert changed <= sizes, name


def flat(entries):
    plain = {key: value for key, value in entries.items() if key != "set"}
    return plain | {f"{p}.{k}": v for p, values in entries["set"].items() for k, v in values.items()}


@pytest.mark.parametrize("paper", papers(), ids=lambda paper: paper.id)
def test_every_experiment_is_a_configuration_file_that_run_takes(paper, tmp_path):
    file = tmp_path / "c.toml"
    for name in paper.experiment:
        settled = settle(paper, name, "full")
        file.write_text(configuration(settled), "utf-8")
        read = read_config(file)
        assert read["set"] == settled.entries["set"]
        assert {k: read[k] for k in ("dataset", "attacks", "eps") if k in read} == {
            k: settled.entries[k] for k in ("dataset", "attacks", "eps") if k in settled.entries
        }


def test_data_that_stand_in_keep_the_fingerprints_and_the_bound():
    own, other = (settle(NEURALFP, "cifar10-static", "smoke", data) for data in ("", "digits"))
    assert (own.stand_in, other.stand_in) == ("", "digits")
    assert other.entries["set"]["neuralfp"] == own.entries["set"]["neuralfp"]
    assert other.entries["eps"] == ["linf=0.05"]  # the budget of pixels is the data's
    assert "optimizer" not in other.entries["set"]["training"]


def test_draws_of_figure_6_draw_n_too():
    settled = settle(NEURALFP, "cifar10-draws", "full")
    assert settled.vary == [f"neuralfp.secret={','.join(map(str, range(32)))}"]
    drawn = [settled.drawn({"neuralfp.secret": i})["neuralfp.fingerprints"] for i in range(32)]
    assert min(drawn) >= 5
    assert max(drawn) <= 30
    assert len(set(drawn)) > 10


PAPER = """
id = "p"
title = "P"
url = "u"
margin = 0.01
margin-because = "b"
"""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[experiment.a]\nlike = 'b'\n", "no experiment 'b'"),
        ("[[claim]]\nid = 'a'\nwhere = 'w'\nsays = 's'\n", "neither an experiment, nor a study"),
        (
            "[[claim]]\nid = 'a'\nwhere = 'w'\nsays = 's'\nexperiment = 'x'\nvalue = 1\n",
            "no experiment 'x'",
        ),
        (
            "[[claim]]\nid = 'a'\nwhere = 'w'\nsays = 's'\nnot-tested = 'n'\n" * 2,
            "two claims are called a",
        ),
        ("[[claim]]\nid = 'a'\nwhere = 'w'\nsays = 's'\nteste = 'n'\n", "claim.0.teste"),
        ("wrong = [\n", "p.toml"),
    ],
)
def test_a_paper_that_can_not_be_right_is_refused_in_one_line(text, complaint):
    with pytest.raises(UsageError, match=complaint) as caught:
        parsed(PAPER + text, "p.toml")
    assert "\n" not in str(caught.value)


def test_a_scale_that_would_change_a_formula_is_refused():
    text = """
[scale.smoke.set.neuralfp]
fingerprints = 2
[experiment.a]
dataset = "digits"
model = "digits-mlp"
defense = ["neuralfp"]
attacks = ["fgsm"]
threat-model = ["partial-whitebox"]
"""
    with pytest.raises(UsageError, match=r"may not change neuralfp\.fingerprints"):
        settle(parsed(PAPER + text, "p.toml"), "a", "smoke")


def test_an_id_stands_for_all_below_it():
    chosen = choose(["table4.mnist"], papers())
    assert len(chosen.claims) == 25
    assert not chosen.figures
    assert {name for _, name in chosen.experiments(papers())} == {"mnist-static", "mnist-baselines"}


def test_a_figure_brings_its_claims_and_a_dataset_leaves_the_others_out():
    assert choose(["figure9"], papers()).figures == ("figure9",)
    assert {c.dataset for _, c in choose(["table6"], papers(), "mnist").claims} == {"mnist"}
    assert len(choose(["table6"], papers(), "digits").claims) == 10


def test_everything_is_all_claims_and_all_figures():
    chosen = choose(["all"], papers())
    assert len(chosen.claims) == len(CLAIMS)
    assert {"figure2", "figure10", "epfl-figure6"} <= set(chosen.figures)
    assert {c.id for _, c in choose(["epfl"], papers()).claims} == {c.id for c in EPFL.claims}


def test_an_unknown_id_is_told_what_is_near():
    with pytest.raises(UsageError, match=r"'tabel4'; did you mean 'table4'"):
        choose(["tabel4"], papers())
