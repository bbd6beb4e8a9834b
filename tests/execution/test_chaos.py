"""Workers and whole runs are killed at random: nothing is lost, and nothing is done twice."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import tinyjobs

from nfbench.runner.shift import RETRIES
from nfbench.store import Store

KILLS = int(os.environ.get("NFBENCH_TEST_KILLS", "30"))
EXECUTORS = [
    pytest.param("local", '{"devices": ["cpu:2"]}', KILLS, id="local"),
    pytest.param("ray", '{"cpus": 2}', KILLS // 3, id="ray"),
]
HERE = Path(tinyjobs.__file__)


class Run:
    """The program of toys, started again whenever it is killed."""

    def __init__(self, *given):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])}
        self._start = lambda: subprocess.Popen([sys.executable, str(HERE), *given], env=environment)
        self.process = self._start()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = self._start()


@pytest.fixture
def events(tmp_path):
    path = tmp_path / "events"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(("executor", "fields", "number"), EXECUTORS)
def test_killed_at_random_it_ends_as_if_it_had_not_been(tmp_path, events, executor, fields, number):
    if executor == "ray":
        pytest.importorskip("ray")
    rng, store = random.Random(1), Store(tmp_path / "cache")
    jobs = tinyjobs.toys(chains=number)
    said, killed, kills = Counter(), Counter(), Counter()
    with os.fdopen(os.open(events, os.O_RDWR), "r", encoding="utf-8") as lines:
        run = Run(str(store.root), str(events), str(number), executor, fields)
        for line in lines:
            if line == "end\n":
                break
            first, second = line.split()
            if first == "made":
                said[second] += 1
            elif kills.total() < number and killed[first] < RETRIES and rng.random() < 0.5:
                kind = "run" if kills.total() % 3 == 2 else "worker"
                kills[kind] += 1
                killed[first] += 1
                if kind == "run":
                    run.kill()
                else:
                    with suppress(ProcessLookupError):  # it went with its run
                        os.kill(int(second), signal.SIGKILL)
        assert run.process.wait() == 0
    assert kills.total() == number
    assert {key: store.manifest(key)["info"]["value"] for key in jobs} == tinyjobs.expected(jobs)
    assert max(said.values()) == 1
    assert not list(store.leases.iterdir())
