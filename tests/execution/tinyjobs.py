"""Jobs that take milliseconds and no torch, a worker for them, and a run of them as a program.

    python tinyjobs.py STORE EVENTS CHAINS EXECUTOR FIELDS

EVENTS is a pipe: each job that begins says so in it, `<key> <process>`, and each that is put away,
`made <key>`.
"""

import json
import os
import signal
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

from nfbench import Report
from nfbench.leases import Leases
from nfbench.runner.agenda import Agenda
from nfbench.runner.shift import Shift, jobs_of, missing_of
from nfbench.store import Artifact, Job, Store

WORK = 0.02


def toys(chains=12, length=4, kind="study", end="study"):
    """Chains of jobs that all need one, and one that needs the ends of all chains."""
    root = Job(kind, {"toy": "root"}, label="root")
    found, ends = [root], []
    for chain in range(chains):
        last = root
        for link in range(length):
            last = Job(kind, {"toy": [chain, link]}, (last.key,), f"toy {chain}.{link}", 1.0 + link)
            found.append(last)
        ends.append(last.key)
    return {job.key: job for job in [*found, Job(end, {"toy": "end"}, tuple(ends), "end")]}


def value(job, inputs):
    """What a toy amounts to."""
    return sha256(json.dumps([job.recipe, inputs], sort_keys=True).encode()).hexdigest()


def expected(jobs):
    """Of every toy, computed here."""
    found = {}
    for key, job in jobs.items():
        found[key] = value(job, [found[need] for need in job.needs])
    return found


def perform(site, payload, device):
    """As a worker does it: under a lease, through the store."""
    told = json.loads(site)
    store = Store(Path(told["store"]))
    job, _ = jobs_of(payload)
    with Leases(store.leases).take(job.key, job.label, device) as mine:
        if not mine:
            return Report(job.key, "busy")
        if job.key in store:
            return Report(job.key, "present")
        tell(told["events"], f"{job.key} {os.getpid()}")
        if job.label in told.get("poison", ()):
            os.abort()
        if job.label in told.get("hang", ()):
            threading.Event().wait()
        end = time.perf_counter() + WORK
        while time.perf_counter() < end:
            sha256(b"work").digest()
        inputs = [store.manifest(need)["info"]["value"] for need in job.needs]
        store.put(job, Artifact({}, {"value": value(job, inputs)}), {})
        tell(told["events"], f"made {job.key}")
    return Report(job.key, "made", WORK)


def tell(events, line):
    if events:
        pipe = os.open(events, os.O_WRONLY)
        os.write(pipe, f"{line}\n".encode())
        os.close(pipe)


class Quiet:
    """A watcher that remembers what was given up."""

    def __init__(self):
        self.ran, self.reasons, self.warnings, self.traces = 0, {}, [], []

    def started(self, job):
        pass

    def advanced(self, job, share):
        pass

    def made(self, job, report):
        self.ran += 1

    def found(self, job):
        pass

    def given_up(self, job, report, lost):
        self.reasons |= dict.fromkeys(lost, report.reason)
        self.traces.append(report.traceback)

    def discarded(self, key, reason):
        pass

    def warned(self, message):
        self.warnings.append(message)


def site_of(store, events="", **changes):
    told = {"worker": "tinyjobs:perform", "store": str(store.root), "events": str(events)}
    return json.dumps(told | changes)


def run(store, executor, jobs, events="", **site):
    """All toys that the store lacks; the watcher."""
    engine, watcher = executor.engine(site_of(store, events, **site)), Quiet()
    agenda = Agenda(jobs, missing_of(jobs, store, jobs), lambda job: job.weight)
    try:
        Shift(jobs, store, agenda, engine, watcher, Leases(store.leases)).work()
    except BaseException:
        engine.close(abandon=True)
        raise
    engine.close(abandon=False)
    return watcher


def main():
    from nfbench.core.registry import Registry

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    root, events, chains, name, fields = sys.argv[1:]
    executor = Registry.load().find("executor", name).load().from_params(json.loads(fields))
    found = run(Store(Path(root)), executor, toys(int(chains)), events)
    tell(events, "end")
    sys.exit(bool(found.reasons))


if __name__ == "__main__":
    main()
