"""`run`, `plan` and `report` from end to end, on 20 digits."""

import errno
import json
import os
import shutil
import signal

import pytest

from nfbench import store as store_module
from nfbench.report import run as run_module
from nfbench.runner import jobs as jobs_module


def cells(done):
    return json.loads(done.out)["cells"]


def test_a_run_shows_a_table_and_says_where_it_lies(nfbench, tiny, elsewhere):
    done = nfbench("run", *tiny, "--out", "r")
    assert done.code == 0
    assert "max-softmax" in done.out
    assert "partial-whitebox" in done.out
    assert "1 of 1 cells done; 6 jobs ran, 0 were reused" in done.err
    assert "leaderboard: r/leaderboard.md" in done.err
    names = {p.name for p in (elsewhere / "r").iterdir()}
    assert names == {
        "run.json",
        "results.jsonl",
        "leaderboard.md",
        "report.html",
        "samples",
        "gallery.safetensors",
    }


def test_a_second_run_says_that_there_is_nothing_to_do(nfbench, tiny):
    first = nfbench("run", *tiny)
    second = nfbench("run", *tiny)
    assert second.code == 0
    assert "nothing to do: 1 of 1 cells were done already" in second.err
    assert second.out == first.out


def test_without_out_the_run_directory_is_named_after_the_plan(nfbench, tiny, elsewhere):
    digest = json.loads(nfbench("plan", *tiny, "--json").out)["plan"]
    nfbench("run", *tiny)
    assert [p.name for p in (elsewhere / "runs").iterdir()] == [f"digits-{digest}"]


def test_json_is_all_there_is_on_standard_output(nfbench, tiny, elsewhere):
    done = nfbench("run", *tiny, "--json", "--out", "r")
    (cell,) = cells(done)
    assert (cell["status"], cell["defense"]["name"]) == ("done", "max-softmax")
    assert json.loads((elsewhere / "r" / "results.jsonl").read_text()) == cell
    again = nfbench("report", "r", "--json")
    assert cells(again) == [cell]


def test_quiet_says_nothing_until_the_end(nfbench, tiny):
    assert "jobs to run" in nfbench("run", *tiny, "--cache-dir", "other").err
    done = nfbench("run", *tiny, "--quiet")
    assert "jobs to run" not in done.err
    assert "cells done" in done.err


def test_the_command_is_recorded(nfbench, tiny, elsewhere):
    nfbench("run", *tiny, "--out", "r")
    assert json.loads((elsewhere / "r" / "run.json").read_text())["command"].startswith(
        "nfbench run -d max-softmax"
    )


@pytest.mark.parametrize("command", [("plan",), ("run", "--dry-run")])
def test_a_plan_runs_nothing(nfbench, tiny, elsewhere, command, monkeypatch):
    monkeypatch.setattr(jobs_module, "run", None)
    before = json.loads(nfbench(*command, *tiny, "--json").out)
    assert [job["kind"] for job in before["jobs"]] == ["train", "fit", "clean", "craft", "score", "time"]
    assert not any(job["done"] for job in before["jobs"])
    assert before["cells"][0]["job"] in {job["key"] for job in before["jobs"]}
    assert "5" in nfbench(*command, *tiny).out
    assert not (elsewhere / "runs").exists()


def test_a_plan_knows_what_is_done(nfbench, tiny):
    nfbench("run", *tiny)
    assert all(job["done"] for job in json.loads(nfbench("plan", *tiny, "--json").out)["jobs"])


def test_skipped_cells_say_why(nfbench, tiny):
    planned = nfbench("plan", *tiny, "--eps", "inf")
    assert "fgsm needs a bound: give --eps linf=…" in planned.out
    done = nfbench("run", *tiny, "--eps", "inf")
    assert done.code == 2
    assert "skipped 1 cells: fgsm needs a bound" in done.err


@pytest.mark.parametrize(
    ("flag", "values"),
    [("--device", ("cpu", "auto")), ("--out", ("a", "b")), ("--cache-dir", ("a", "b"))],
)
def test_the_place_of_a_run_is_not_part_of_its_plan(nfbench, tiny, elsewhere, flag, values):
    seen = set()
    for value in values:
        name = nfbench("run", *tiny, flag, value, "--json")
        seen.add(json.loads(name.out)["run"]["plan"])
    assert len(seen) == 1


def test_failed_cells_are_one_line_and_exit_code_1(nfbench, tiny, elsewhere, monkeypatch):
    def stumble(*_):
        raise RuntimeError("stumbled [bold]over")

    monkeypatch.setitem(jobs_module._RUN, "craft", stumble)
    done = nfbench("run", *tiny, "--out", "r")
    assert done.code == 1
    reason = "fgsm · partial-whitebox: RuntimeError: stumbled [bold]over"
    assert f"failed {reason}" in done.err
    assert f"failed 1 cells: {reason}" in done.err
    assert "tracebacks: r/failures.txt" in done.err
    assert "Traceback" not in done.err
    assert "stumble" in (elsewhere / "r" / "failures.txt").read_text()


def test_a_full_disk_under_the_run_directory_is_one_line(nfbench, tiny, monkeypatch):
    real = store_module.write_atomic

    def write(path, data):
        if path.name == "results.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(run_module, "write_atomic", write)
    done = nfbench("run", *tiny, "--quiet", "--out", "r")
    assert done.code == 1
    assert done.complaint.startswith("error: can't write the run directory r: No space left on device; ")


def test_an_interruption_from_within_has_its_exit_code(nfbench, tiny, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(jobs_module._RUN, "craft", interrupt)
        done = nfbench("run", *tiny)
    assert done.code == 130
    assert "interrupted: 0 of 1 cells are done and kept; run again to go on" in done.err
    assert "1 of 1 cells done; 5 jobs ran, 1 were reused" in nfbench("run", *tiny).err


def test_ctrl_c_keeps_what_is_finished(nfbench, process):
    arguments = ["run", "-d", "random", "-a", "fgsm,pgd", "-t", "partial-whitebox", "--limit", "20"]
    arguments += ["--set", "training.epochs=1", "--set", "pgd.steps=1000000", "--out", "r"]
    running = process(*arguments)
    for line in running.stderr:
        if "score fgsm" in line:
            break
    os.kill(running.pid, signal.SIGINT)
    _, rest = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted: 1 of 2 cells are done and kept; run again to go on" in rest
    assert "Traceback" not in rest
    shown = {
        cell["cell"].split("--")[1]: cell["status"] for cell in cells(nfbench("report", "r", "--json"))
    }
    assert shown == {"fgsm": "done", "pgd": "skipped"}
    fewer = [a.replace("1000000", "2") for a in arguments]
    assert "2 of 2 cells done; 3 jobs ran, 5 were reused" in nfbench(*fewer).err


def test_two_runs_in_one_cache_at_once_agree(process, tiny, elsewhere):
    both = [process("run", *tiny, "--out", name, "--quiet") for name in ("one", "two")]
    for running in both:
        _, err = running.communicate(timeout=120)
        assert running.returncode == 0, err
    one, two = (json.loads((elsewhere / name / "results.jsonl").read_text()) for name in ("one", "two"))
    assert one["metrics"] == two["metrics"]
    assert one["inputs"] == two["inputs"]
    assert not list((elsewhere / "cache").rglob(".*"))


def test_an_older_cache_is_a_warning(nfbench, tiny, elsewhere):
    (elsewhere / "cache" / "v0").mkdir(parents=True)
    done = nfbench("run", *tiny)
    assert done.code == 0
    assert "v0 was written by another version of nfbench and is not used" in done.err


def test_report_renders_the_same_page_from_the_files_alone(nfbench, tiny, elsewhere):
    first = nfbench("run", *tiny, "--out", "r")
    page = (elsewhere / "r" / "leaderboard.md").read_text()
    shutil.rmtree(elsewhere / "cache")
    (elsewhere / "r" / "leaderboard.md").unlink()
    again = nfbench("report", "r")
    assert again.code == 0
    assert again.out == first.out
    assert (elsewhere / "r" / "leaderboard.md").read_text() == page
    assert not (elsewhere / "cache").exists()


def test_report_shows_another_statistic(nfbench, tiny, elsewhere):
    nfbench("run", *tiny, "--out", "r")
    assert "auroc_returned" in nfbench("report", "r", "--statistic", "auroc_returned").out
    assert "auroc_returned" in (elsewhere / "r" / "leaderboard.md").read_text()


def shorten(path):
    path.write_bytes(path.read_bytes()[:-40])


def garble(path):
    path.write_bytes(b"\xff\xfe\x00")


def strip(path):
    path.write_text(json.dumps({"schema_version": 1}) + "\n")


def strip_metrics(path):
    path.write_text(json.dumps({**json.loads(path.read_text()), "metrics": {}}) + "\n")


def blank(path):
    path.write_text("[]\n")


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("results.jsonl", shorten),
        ("results.jsonl", garble),
        ("results.jsonl", strip),
        ("results.jsonl", strip_metrics),
        ("results.jsonl", blank),
        ("run.json", shorten),
        ("run.json", strip),
        ("run.json", blank),
        ("run.json", os.remove),
        ("samples", shorten),
        ("samples", os.remove),
    ],
)
def test_a_damaged_run_directory_is_one_line(nfbench, tiny, elsewhere, file, harm):
    nfbench("run", *tiny, "--out", "r")
    path = elsewhere / "r" / file
    harm(next(path.iterdir()) if path.is_dir() else path)
    done = nfbench("report", "r")
    assert done.code == 5
    assert "r is damaged (" in done.complaint
    assert done.complaint.endswith(": run its command again")


@pytest.mark.parametrize("file", ["run.json", "results.jsonl"])
def test_a_run_of_another_schema_is_refused(nfbench, tiny, elsewhere, file):
    nfbench("run", *tiny, "--out", "r")
    path = elsewhere / "r" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}) + "\n")
    done = nfbench("report", "r")
    assert done.code == 2
    assert " was written under schema 99, this nfbench reads up to " in done.complaint
