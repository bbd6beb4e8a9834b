"""How long a plan takes on some number of workers: the agenda, played through without doing anything."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping

from nfbench.runner.agenda import Agenda, Cost, longest_paths
from nfbench.store import Job, Key


def makespan(jobs: Mapping[Key, Job], missing: Collection[Key], cost: Cost, workers: int) -> float:
    """When the last job ends, in the units of `cost`, if every job takes what it costs."""
    agenda = Agenda(jobs, missing, cost)
    now, running = 0.0, list[tuple[float, Key]]()
    while len(agenda):
        while agenda and len(running) < workers:
            key = agenda.pop()
            heapq.heappush(running, (now + cost(jobs[key]), key))
        now, key = heapq.heappop(running)
        agenda.made(key)
    return now


def least(jobs: Mapping[Key, Job], missing: Collection[Key], cost: Cost, workers: int) -> float:
    """No order of jobs takes less: all work shared evenly, or the longest chain of jobs."""
    work = sum(cost(jobs[key]) for key in missing)
    return max(work / workers, max(longest_paths(jobs, missing, cost).values(), default=0.0))
