"""Playing a plan through: bounds that always hold, and plans whose time is known."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_agenda import dag

from nfbench.runner.forecast import least, makespan
from nfbench.store import Job


def weight(job):
    return job.weight


@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_it_takes_no_less_than_it_must_and_no_more_than_graham_allows(seed, size, workers):
    jobs = dag(random.Random(seed), size)
    took, bound = (f(jobs, list(jobs), weight, workers) for f in (makespan, least))
    assert bound * (1 - 1e-9) <= took <= (2 - 1 / workers) * bound * (1 + 1e-9)


def test_one_worker_takes_the_sum_and_many_the_longest_chain():
    jobs = dag(random.Random(3), 30)
    assert makespan(jobs, list(jobs), weight, 1) == pytest.approx(sum(j.weight for j in jobs.values()))
    assert makespan(jobs, list(jobs), weight, 99) == pytest.approx(least(jobs, list(jobs), weight, 99))


def test_the_longest_path_first_is_worth_it():
    """Short jobs first would leave the chain for the end: 2 + 3, not 4."""
    short = [Job("study", {"i": i}, (), f"short {i}", 1.0) for i in range(4)]
    head = Job("study", {"i": "head"}, (), "head", 1.0)
    tail = Job("study", {"i": "tail"}, (head.key,), "tail", 2.0)
    jobs = {job.key: job for job in [*short, head, tail]}
    assert makespan(jobs, list(jobs), weight, 2) == pytest.approx(4)  # 7 units of work on two workers
    assert least(jobs, list(jobs), weight, 2) == pytest.approx(3.5)
