"""The agenda: which jobs can run now, and which of them first."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping

from nfbench.store import Job, Key

Cost = Callable[[Job], float]


class Agenda:
    """Jobs to be made, in an order that never waits for what is not started.

    Several workers get the longest remaining path first, which keeps the last of them from ending
    long after the others; one worker gets the order of the plan, which finishes cell after cell.
    """

    def __init__(
        self, jobs: Mapping[Key, Job], missing: Collection[Key], cost: Cost | None = None
    ) -> None:
        self.jobs, self._cost = jobs, cost
        self._open: set[Key] = set()
        self._waits: dict[Key, int] = {}
        self._feeds: dict[Key, list[Key]] = {}
        self._rank: dict[Key, tuple[bool, float, int]] = {}
        self._ready: list[tuple[tuple[bool, float, int], Key]] = []
        self._queued: set[Key] = set()
        self._started: set[Key] = set()
        self.open(missing)

    def __bool__(self) -> bool:
        """Whether anything can be started now."""
        while self._ready and not self._startable(self._ready[0][1]):
            self._queued.discard(heapq.heappop(self._ready)[1])
        return bool(self._ready)

    def __contains__(self, key: Key) -> bool:
        return key in self._open

    def __len__(self) -> int:
        """Jobs that are neither made nor given up."""
        return len(self._open)

    def peek(self) -> Key:
        """The job that `pop` would give; ask first whether there is one."""
        return self._ready[0][1]

    def pop(self) -> Key:
        """The job to start now; it counts as open until `made` or `given_up` says otherwise."""
        key = heapq.heappop(self._ready)[1]
        self._queued.discard(key)
        self._started.add(key)
        return key

    def put_back(self, key: Key) -> None:
        """A job that was started and has to be started again."""
        self._started.discard(key)
        self._queue(key)

    def _queue(self, key: Key) -> None:
        """Once, and not while it runs."""
        if self._startable(key) and key not in self._started and key not in self._queued:
            self._queued.add(key)
            heapq.heappush(self._ready, (self._rank[key], key))

    def open(self, missing: Collection[Key]) -> None:
        """Take jobs in; of those that wait for one of them, it is known from then on."""
        new = [key for key in missing if key not in self._open]
        self._open.update(new)
        paths = {} if self._cost is None else longest_paths(self.jobs, new, self._cost)
        for key in new:
            last = self._cost is not None and self.jobs[key].kind == "time"
            self._rank[key] = (last, -paths.get(key, 0.0), len(self._rank))
            self._waits[key], self._feeds[key] = 0, []
        fresh = set(new)
        for key in self._open:
            for need in {
                n for n in self.jobs[key].needs if n in (fresh if key not in fresh else self._open)
            }:
                self._waits[key] += 1
                self._feeds[need].append(key)
        for key in new:
            self._queue(key)

    def made(self, key: Key) -> None:
        """What waits for it may become ready."""
        self._open.discard(key)
        self._started.discard(key)
        for follower in self._feeds.pop(key, ()):
            self._waits[follower] -= 1
            self._queue(follower)

    def given_up(self, key: Key) -> list[Key]:
        """The jobs that can't be made without it, itself first."""
        lost: dict[Key, None] = {}
        stack = [key]
        while stack:
            one = stack.pop()
            if one in self._open and one not in lost:
                lost[one] = None
                stack += self._feeds.get(one, ())
        self._open -= lost.keys()
        return list(lost)

    def _startable(self, key: Key) -> bool:
        return key in self._open and not self._waits[key]


def longest_paths(jobs: Mapping[Key, Job], keys: Collection[Key], cost: Cost) -> dict[Key, float]:
    """For each job, the cost of the most expensive chain of jobs that begins with it."""
    inside = set(keys)
    feeds: dict[Key, list[Key]] = {key: [] for key in keys}
    for key in keys:
        for need in set(jobs[key].needs) & inside:
            feeds[need].append(key)
    found: dict[Key, float] = {}
    stack = list(keys)
    while stack:
        key = stack[-1]
        open_ = [one for one in feeds[key] if one not in found]
        if open_ and key not in found:
            stack += open_
            continue
        stack.pop()
        found[key] = cost(jobs[key]) + max((found[one] for one in feeds[key]), default=0.0)
    return found
