"""A shift among damage, loss and other runs: every job is made, and none runs twice at once."""

import random

import pytest
import tinyjobs

from nfbench.core.execution import Engine, Report
from nfbench.leases import EXPIRY, Leases
from nfbench.runner.agenda import Agenda
from nfbench.runner.shift import Shift, missing_of


class Shelf(dict):
    """A store of nothing but keys; a damaged one says so when it is read."""

    def __init__(self):
        super().__init__()
        self.damaged = set()


class Tossed(Engine):
    """Tasks end in any order; some are lost, and some find that an input is damaged."""

    def __init__(self, shelf, jobs, slots, rng, *, lose=0.0):
        self.shelf, self.jobs, self.slots, self.rng, self.lose = shelf, jobs, slots, rng, lose
        self.flying, self.read, self.runs = [], {}, []

    def submit(self, task):
        assert task.key not in self.flying
        assert len(self.flying) < self.slots
        self.flying.append(task.key)
        needs = self.jobs[task.key].needs
        assert all(need in self.shelf for need in needs)
        self.read[task.key] = [need for need in needs if need in self.shelf.damaged]

    def wait(self, seconds):
        key = self.flying.pop(self.rng.randrange(len(self.flying)))
        if self.read[key]:
            return [
                Report(key, "damaged", reason=f"artifact {self.read[key][0]}", about=self.read[key][0])
            ]
        if self.rng.random() < self.lose:
            return [Report(key, "lost", reason="gone")]
        self.shelf[key] = True
        self.runs.append(key)
        return [Report(key, "made")]

    def close(self, *, abandon):
        pass


class Watching(tinyjobs.Quiet):
    def __init__(self, shelf):
        super().__init__()
        self.shelf = shelf

    def discarded(self, key, reason):
        self.shelf.damaged.discard(key)
        del self.shelf[key]


def shift(shelf, jobs, engine, leases):
    watcher = Watching(shelf)
    agenda = Agenda(jobs, missing_of(jobs, shelf, jobs), lambda job: job.weight)
    return Shift(jobs, shelf, agenda, engine, watcher, leases), watcher


@pytest.mark.parametrize("slots", [1, 2, 4, 8])
@pytest.mark.parametrize("seed", range(25))
def test_a_damaged_artifact_that_many_need_is_made_again_once(tmp_path, slots, seed):
    rng, shelf = random.Random(seed), Shelf()
    jobs = tinyjobs.toys(chains=6, length=3)
    damaged = [key for key, job in jobs.items() if job.label == "root" or job.label.endswith(".0")]
    for key in damaged:
        shelf[key] = True
    shelf.damaged.update(rng.sample(damaged, 3), damaged[:1])
    broken = set(shelf.damaged)
    engine = Tossed(shelf, jobs, slots, rng)
    work, watcher = shift(shelf, jobs, engine, Leases(tmp_path))
    work.work()
    assert watcher.reasons == {}
    assert shelf.keys() == jobs.keys()
    assert max(map(engine.runs.count, engine.runs)) == 1
    made_again = broken - {
        damaged[0]
    }  # nobody reads the root, whose followers are there, but remade ones
    assert made_again <= set(engine.runs)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_lost_now_and_then_is_made_in_the_end_or_given_up_with_its_followers(tmp_path, seed):
    rng, shelf = random.Random(seed), Shelf()
    jobs = tinyjobs.toys(chains=5, length=3)
    engine = Tossed(shelf, jobs, 3, rng, lose=0.3)
    work, watcher = shift(shelf, jobs, engine, Leases(tmp_path))
    work.work()
    assert shelf.keys() | watcher.reasons.keys() == jobs.keys()
    assert not shelf.keys() & watcher.reasons.keys()
    for key in watcher.reasons:
        assert all(set(job.needs).isdisjoint({key}) or k in watcher.reasons for k, job in jobs.items())


class Busy(Engine):
    """Workers that find every job taken by somebody else, as long as there is a lease."""

    slots = 2

    def __init__(self, shelf, folder):
        self.shelf, self.folder, self.flying, self.asked = shelf, folder, [], 0

    def submit(self, task):
        self.flying.append(task.key)

    def wait(self, seconds):
        reports = []
        for key in self.flying:
            self.asked += 1
            if (self.folder / f"{key}.json").exists():
                reports.append(Report(key, "busy"))
            else:
                self.shelf[key] = True
                reports.append(Report(key, "made"))
        self.flying = []
        return reports

    def close(self, *, abandon):
        pass


def test_a_holder_of_another_machine_that_died_is_waited_for_by_the_driver_alone(tmp_path, monkeypatch):
    """Workers may be new processes each time, which can not tell how long a lease is silent."""
    jobs, shelf = tinyjobs.toys(chains=1, length=1), Shelf()
    root = next(iter(jobs))
    (tmp_path / f"{root}.json").write_text('{"host": "elsewhere", "pid": 1, "token": "t", "beat": 0}')
    now = iter(range(0, 10_000, 7))
    engine = Busy(shelf, tmp_path)
    monkeypatch.setattr("nfbench.runner.shift.time.sleep", lambda seconds: None)
    work, watcher = shift(shelf, jobs, engine, Leases(tmp_path, clock=lambda: float(next(now))))
    work.work()
    assert shelf.keys() == jobs.keys()
    assert watcher.reasons == {}
    assert engine.asked == len(jobs) + 1  # one was told that it is busy, none in the minute after
    assert next(now) > EXPIRY
