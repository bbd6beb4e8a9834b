"""`sweep` from end to end, on 20 digits."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from nfbench.runner import jobs as jobs_module

SWEEP = ["sweep", "-d", "neuralfp", "-a", "fgsm", "-t", "partial-whitebox", "--limit", "20"]
SWEEP += ["--set", "training.epochs=1"]
VARY = ["--vary", "fingerprints=2,3", "--vary", "size=0.01,0.1"]
FILES = ["sweep.csv", "sweep.json", "sweep.md"]
PLOTS = [f"sweep-{name}.{kind}" for name in ("auroc_worst", "sr_at_5_fpr") for kind in ("png", "svg")]


def stumble(monkeypatch, error, fingerprints):
    """Let the fit of one number of fingerprints fail."""
    real = jobs_module._RUN["fit"]

    def fit(job, *rest):
        if job.recipe["defense"]["fingerprints"] == fingerprints:
            raise error
        return real(job, *rest)

    monkeypatch.setitem(jobs_module._RUN, "fit", fit)


def test_a_sweep_shows_a_row_a_point_and_leaves_tables_and_plots(nfbench, elsewhere):
    done = nfbench(*SWEEP, *VARY, "--out", "s")
    assert done.code == 0
    rows = [line.split("│")[1:3] for line in done.out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["2", "0.01"],
        ["2", "0.1"],
        ["3", "0.01"],
        ["3", "0.1"],
    ]
    assert "4 of 4 points done; 26 jobs ran" in done.err
    assert "point 4/4: fingerprints=3, size=0.1" in done.err
    assert "table: s/sweep.md" in done.err
    assert "plot: s/sweep-auroc_worst.svg" in done.err
    points = [f"fingerprints={n}--size={size}" for n in (2, 3) for size in ("0.01", "0.1")]
    assert sorted(p.name for p in (elsewhere / "s").iterdir()) == sorted([*FILES, *PLOTS, *points])
    page = (elsewhere / "s" / "sweep.md").read_text()
    assert "![sweep-sr_at_5_fpr](sweep-sr_at_5_fpr.svg)" in page
    assert "`nfbench sweep -d neuralfp" in page


def test_a_second_sweep_says_that_there_is_nothing_to_do(nfbench):
    first, second = nfbench(*SWEEP, *VARY), nfbench(*SWEEP, *VARY)
    assert (second.code, second.out) == (0, first.out)
    assert "nothing to do: 4 of 4 points were done already" in second.err


def test_without_out_the_directory_is_named_after_the_points(nfbench, elsewhere):
    planned = json.loads(nfbench(*SWEEP, *VARY, "--dry-run", "--json").out)
    nfbench(*SWEEP, *VARY, "--quiet")
    assert [p.name for p in (elsewhere / "runs").iterdir()] == [f"sweep-digits-{planned['sweep']}"]


def test_json_is_the_file_and_all_there_is_on_standard_output(nfbench, elsewhere):
    done = nfbench(*SWEEP, *VARY, "--json", "--quiet", "--out", "s")
    assert done.out == (elsewhere / "s" / "sweep.json").read_text()
    assert "jobs to run" not in done.err
    assert "point 1/4" not in done.err
    found = json.loads(done.out)
    assert [point["status"] for point in found["points"]] == ["done"] * 4
    assert found["points"][3]["values"] == {"neuralfp.fingerprints": 3, "neuralfp.eps": 0.1}


def test_a_dry_run_shows_points_and_runs_nothing(nfbench, elsewhere, monkeypatch):
    monkeypatch.setattr(jobs_module, "run", None)
    done = nfbench(*SWEEP, *VARY, "--dry-run")
    assert done.code == 0
    assert "26 different jobs in all, 26 of them to run" in done.out
    found = json.loads(nfbench(*SWEEP, *VARY, "--dry-run", "--json").out)
    assert [point["to_run"] for point in found["points"]] == [8] * 4
    assert (found["jobs"], found["to_run"]) == (26, 26)
    assert not (elsewhere / "runs").exists()


def test_a_point_that_fails_is_a_row_that_says_so_and_exit_code_1(nfbench, elsewhere, monkeypatch):
    stumble(monkeypatch, RuntimeError("stumbled [bold]over"), 3)
    done = nfbench(*SWEEP, "--vary", "fingerprints=2,3", "--out", "s")
    assert done.code == 1
    assert "failed" in done.out
    assert "fingerprints=3: 1 cell failed: fit neuralfp: RuntimeError: stumbled [bold]over" in done.err
    assert "1 of 2 points done" in done.err
    assert "Traceback" not in done.err
    assert (elsewhere / "s" / "fingerprints=3" / "failures.txt").is_file()


def test_an_interruption_keeps_what_is_done_and_the_same_command_goes_on(nfbench, monkeypatch):
    with monkeypatch.context() as patch:
        stumble(patch, KeyboardInterrupt(), 3)
        done = nfbench(*SWEEP, "--vary", "fingerprints=2,3")
    assert done.code == 130
    assert "interrupted: 1 of 2 points are done and kept; run again to go on" in done.err
    assert "not run" in done.out
    again = nfbench(*SWEEP, "--vary", "fingerprints=2,3")
    assert again.code == 0
    assert "point 2/2 · fit" in again.err
    assert "point 1/2 ·" not in again.err


def test_ctrl_c_shows_what_is_done(process):
    arguments = [*SWEEP, "-a", "fgsm,pgd", "--vary", "pgd.steps=2,1000000", "--out", "s"]
    running = process(*arguments)
    for line in running.stderr:
        if "point 2/2" in line:
            break
    os.kill(running.pid, signal.SIGINT)
    out, rest = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted: 1 of 2 points are done and kept" in rest
    assert "Traceback" not in rest
    assert re.search(r"│ +2 │ +0\.\d+ │", out)


def test_nothing_that_can_be_done_has_its_exit_code(nfbench):
    done = nfbench(*SWEEP, "--eps", "inf", "--vary", "fingerprints=2,3")
    assert done.code == 2
    assert "fingerprints=2: 1 cell skipped: fgsm needs a bound" in done.err


def test_without_matplotlib_the_table_comes_out_all_the_same(nfbench, elsewhere, without_matplotlib):
    done = nfbench(*SWEEP, "--vary", "fingerprints=2,3", "--out", "s")
    assert done.code == 0
    assert "no plot: figures need matplotlib: pip install 'nfbench[figures]'" in done.err
    assert sorted(p.name for p in (elsewhere / "s").glob("sweep*")) == FILES
    assert "![" not in (elsewhere / "s" / "sweep.md").read_text()


@pytest.mark.parametrize("width", [60, 100, 200])
def test_a_table_that_is_too_wide_is_shown_in_parts_that_are_whole(nfbench, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    both = ["-t", "partial-whitebox,score-queries", "-a", "fgsm,random-search"]
    done = nfbench(*SWEEP, *both, "--vary", "fingerprints=2", "--set", "random-search.points=4")
    titles = [line for line in done.out.splitlines() if "fingerprints ┃" in line]
    assert sum(line.count("linf") for line in titles) == 6  # two attacks and the worst, twice
    assert all(len(line) <= width for line in titles)
    assert (len(titles) == 1) == (width == 200)


def test_of_many_attacks_the_terminal_shows_the_worst_cases(nfbench, elsewhere):
    attacks = "fgsm,pgd,bim-a,bim-b,apgd,random-search,mi-di-fgsm,square"
    steps = [f"--set={name}.steps=1" for name in ("pgd", "bim-a", "bim-b", "apgd", "mi-di-fgsm")]
    more = ["--set=random-search.points=2", "--set=square.queries=2", "--out", "s"]
    done = nfbench(*SWEEP, "-a", attacks, *steps, *more, "--vary", "fingerprints=2")
    assert "worst case (linf ≤ 0.25)" in done.out
    assert "pgd (" not in done.out
    assert "only worst cases over attacks are shown here" in done.out
    assert "pgd (" in (elsewhere / "s" / "sweep.md").read_text()


def test_flags_and_a_file_say_the_rest_as_for_a_run(nfbench, elsewhere):
    (elsewhere / "x.toml").write_text(
        "defense = 'neuralfp'\nattacks = 'fgsm'\nlimit = 20\n[set.neuralfp]\nsize = 0.2\n"
    )
    found = nfbench("sweep", "--config", "x.toml", "--vary", "size=0.01,0.02", "--dry-run", "--json")
    assert [point["values"] for point in json.loads(found.out)["points"]] == [
        {"neuralfp.eps": 0.01},
        {"neuralfp.eps": 0.02},
    ]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "nothing varies: give --vary"),
        (["--vary", "eps=0.1,0.2"], "radii of attacks are a ladder already: --eps 0.1,0.2"),
        (["--vary", "fingerprint=1"], "did you mean 'fingerprints'?"),
        (["--vary", "fingerprints=2,0"], "neuralfp.fingerprints = 0"),
        (["--vary", "fingerprints=2", "--statistic", "auroc_wurst"], "unknown statistic 'auroc_wurst'"),
        (["--vary", "fingerprints=2", "--device", "tpu"], "--device tpu: expected auto, cpu"),
        (["--vary", "fingerprints=2", "--out", "file/s"], "can't write to --out file/s"),
    ],
)
def test_a_mistake_is_one_line_before_any_work(nfbench, elsewhere, monkeypatch, arguments, why):
    (elsewhere / "file").write_text("")
    monkeypatch.setattr(jobs_module, "run", None)
    done = nfbench(*SWEEP, *arguments)
    assert done.code == 2
    assert why in done.complaint


def test_its_help_imports_nothing_heavy():
    probe = "import sys\nfrom nfbench import cli\nsys.argv = ['nfbench', 'sweep', '--help']\n"
    probe += "try:\n    cli.main()\nfinally:\n"
    probe += "    print('HEAVY', {'torch', 'numpy', 'matplotlib'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "--vary" in done.stdout
    assert "HEAVY set()" in done.stdout


def test_show_names_the_alias(nfbench):
    (plugin,) = json.loads(nfbench("show", "neuralfp", "--json").out)
    (size,) = [knob for knob in plugin["hyperparameters"] if knob["name"] == "eps"]
    assert size["doc"].endswith("Also called size.")
