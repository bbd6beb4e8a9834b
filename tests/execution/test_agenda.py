"""The order of jobs: nothing before what it needs, and the longest path first."""

import random

import pytest
import tinyjobs
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.runner.agenda import Agenda, longest_paths
from nfbench.runner.shift import missing_of
from nfbench.store import Job


def dag(rng, size):
    """Jobs each of which needs some of those before it."""
    jobs = []
    for i in range(size):
        needs = tuple(job.key for job in jobs if rng.random() < 3 / size)
        jobs.append(Job("study", {"i": i}, needs, f"job {i}", rng.uniform(1, 9)))
    return {job.key: job for job in jobs}


def by_hand(jobs, key):
    """The most expensive chain from a job on, by trying all."""
    after = [by_hand(jobs, one) for one, job in jobs.items() if key in job.needs]
    return jobs[key].weight + max(after, default=0)


@given(st.integers(0, 2**31), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_a_path_is_as_long_as_its_most_expensive_chain(seed, size):
    jobs = dag(random.Random(seed), size)
    found = longest_paths(jobs, list(jobs), lambda job: job.weight)
    for key in jobs:
        assert found[key] == pytest.approx(by_hand(jobs, key))


@given(st.integers(0, 2**31), st.integers(1, 40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_job_runs_once_and_after_what_it_needs(seed, size, longest_first):
    rng = random.Random(seed)
    jobs = dag(rng, size)
    agenda = Agenda(jobs, list(jobs), (lambda job: job.weight) if longest_first else None)
    done, flying = [], []
    while len(agenda):
        while agenda and rng.random() < 0.7:
            flying.append(agenda.pop())
            assert set(jobs[flying[-1]].needs) <= set(done)
        if flying:
            key = flying.pop(rng.randrange(len(flying)))
            if rng.random() < 0.1:
                agenda.put_back(key)
            else:
                agenda.made(key)
                done.append(key)
    assert sorted(done) == sorted(jobs)


def test_one_worker_goes_cell_after_cell_and_several_take_the_longest_path_first():
    short, long_ = Job("study", {"i": 0}, (), "short", 1.0), Job("study", {"i": 1}, (), "long", 2.0)
    jobs = {job.key: job for job in (short, long_)}
    assert Agenda(jobs, list(jobs)).pop() == short.key
    assert Agenda(jobs, list(jobs), lambda job: job.weight).pop() == long_.key


def test_jobs_that_measure_time_come_last():
    slow, other = Job("time", {"i": 0}, (), "time", 99.0), Job("study", {"i": 1}, (), "other", 1.0)
    jobs = {job.key: job for job in (slow, other)}
    agenda = Agenda(jobs, list(jobs), lambda job: job.weight)
    assert [agenda.pop(), agenda.pop()] == [other.key, slow.key]


def test_what_is_given_up_takes_its_followers_along_and_no_others():
    jobs = tinyjobs.toys(chains=2, length=2)
    labels = {job.label: key for key, job in jobs.items()}
    agenda = Agenda(jobs, list(jobs))
    agenda.made(agenda.pop())
    lost = agenda.given_up(labels["toy 0.0"])
    assert {jobs[key].label for key in lost} == {"toy 0.0", "toy 0.1", "end"}
    left = []
    while agenda:
        left.append(agenda.pop())
        agenda.made(left[-1])
    assert [jobs[key].label for key in left] == ["toy 1.0", "toy 1.1"]
    assert not len(agenda)


def test_what_has_to_be_made_again_comes_before_those_that_wait_for_it():
    jobs = tinyjobs.toys(chains=1, length=1)
    root, toy, end = jobs
    agenda = Agenda(jobs, [toy, end])
    assert agenda.pop() == toy
    agenda.open([root])  # its input turned out to be damaged
    agenda.put_back(toy)
    order = []
    while agenda:
        order.append(agenda.pop())
        agenda.made(order[-1])
    assert order == [root, toy, end]


def test_jobs_are_listed_after_what_they_need_and_stop_at_what_is_there():
    jobs = tinyjobs.toys(chains=3, length=3)
    assert list(missing_of(jobs, (), jobs)) != []
    found = missing_of(jobs, (), jobs)
    assert sorted(found) == sorted(jobs)
    for place, key in enumerate(found):
        assert set(jobs[key].needs) <= set(found[:place])
    ends = [key for key, job in jobs.items() if job.label.endswith(".2")]
    assert missing_of(jobs, ends, jobs)[-1] == list(jobs)[-1]
    assert set(missing_of(jobs, ends, [list(jobs)[-1]])) == {list(jobs)[-1]}
