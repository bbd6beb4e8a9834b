"""Workers of this machine: what they make, what becomes of them, and what is refused."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
import tinyjobs

from nfbench.core.errors import UsageError
from nfbench.core.registry import Registry
from nfbench.runner.shift import task_of
from nfbench.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def local(**fields):
    return Registry.load().find("executor", "local").load().from_params({"devices": ["cpu:2"], **fields})


def test_all_jobs_are_made_and_a_second_run_has_nothing_to_do(store):
    jobs = tinyjobs.toys(chains=4)
    found = tinyjobs.run(store, local(), jobs)
    assert (found.ran, found.reasons, found.warnings) == (len(jobs), {}, [])
    assert {key: store.manifest(key)["info"]["value"] for key in jobs} == tinyjobs.expected(jobs)
    assert tinyjobs.run(store, local(), jobs).ran == 0


def test_a_job_that_kills_its_worker_is_tried_a_few_times_then_fails_with_its_traceback(store):
    jobs = tinyjobs.toys(chains=2, length=2)
    found = tinyjobs.run(store, local(), jobs, poison=["toy 0.0"])
    assert {jobs[key].label for key in found.reasons} == {"toy 0.0", "toy 0.1", "end"}
    (reason,) = set(found.reasons.values())
    assert reason == "toy 0.0: tried 3 times, its worker on cpu died (killed by SIGABRT)"
    assert len(found.warnings) == 2
    (trace,) = found.traces
    assert "Fatal Python error: Aborted" in trace
    assert "tinyjobs.py" in trace
    assert found.ran == len(jobs) - 3


def test_a_job_that_takes_too_long_is_stopped(store, monkeypatch):
    jobs = tinyjobs.toys(chains=1, length=1)
    found = tinyjobs.run(store, local(timeout=2.0), jobs, hang=["toy 0.0"])
    assert set(found.reasons.values()) == {"toy 0.0: took longer than local.timeout = 2 s"}


def test_a_worker_that_can_not_begin_says_why(store):
    jobs = tinyjobs.toys(chains=1, length=1)
    found = tinyjobs.run(store, local(), jobs, worker="no_such_module:perform")
    assert set(found.reasons.values()) == {"root: ModuleNotFoundError: No module named 'no_such_module'"}


def test_a_worker_that_dies_while_it_has_nothing_to_do_is_replaced(store):
    """The system may choose it when memory runs out, since it holds on to what it has read."""
    engine = local(devices=["cpu:1"]).engine(tinyjobs.site_of(store))
    jobs = tinyjobs.toys(chains=1, length=2)
    first, second, *_ = jobs.values()
    try:
        engine.submit(task_of(first, jobs))
        (report,) = collected(engine)
        assert report.result == "made"
        (child,) = multiprocessing.active_children()
        child.kill()
        child.join()
        engine.submit(task_of(second, jobs))
        (report,) = collected(engine)
        if report.result == "lost":  # it had not been noticed yet
            engine.submit(task_of(second, jobs))
            (report,) = collected(engine)
        assert report.result == "made"
    finally:
        engine.close(abandon=True)


def collected(engine):
    while not (found := engine.wait(5)):
        pass
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_ends_leaves_no_worker(tmp_path, store, how):
    events = tmp_path / "events"
    os.mkfifo(events)
    given = [str(store.root), str(events), "40", "local", '{"devices": ["cpu:2"]}']
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with os.fdopen(os.open(events, os.O_RDWR), "r", encoding="utf-8") as lines:
        run = subprocess.Popen(
            [sys.executable, tinyjobs.__file__, *given],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        next(lines)
        run.send_signal(how)
    # Workers hold the write end of its output: the end of file says that they are gone as well.
    assert run.stdout.read() == b""
    assert run.wait() != 0


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"devices": ["cuda:99"]}, "--devices cuda:99: this machine has"),
        ({"devices": ["tpu"]}, "--devices tpu: expected auto, cpu, cpu:2, cuda or cuda:0"),
        ({"devices": ["cpu:two"]}, "expected auto, cpu, cpu:2"),
        ({"devices": ["cpu:0"]}, "--devices is empty"),
        ({"devices": []}, "--devices is empty"),
        ({"jobs_per_device": 0}, "jobs_per_device"),
    ],
)
def test_devices_that_are_not_there_are_refused_in_one_line(fields, complaint):
    with pytest.raises(UsageError, match=complaint) as error:
        local(**fields).engine("{}")
    assert "\n" not in str(error.value)


def test_gpus_are_shared_by_as_many_workers_as_asked_for(monkeypatch):
    import nfbench_executors.local as module

    monkeypatch.setattr(module, "_gpus", lambda: 2)
    assert local(jobs_per_device=2)._workers("cuda") == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    assert local(jobs_per_device=3)._workers("cuda:1") == ["cuda:1"] * 3
    assert local()._workers("auto") == ["cuda:0", "cuda:1"]
    assert local(jobs_per_device=2)._workers("cpu:3") == ["cpu"] * 3
