"""Slurm: every job of a run is a job of the cluster. Needs the extra `nfbench[slurm]`."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nfbench import Count, Engine, Executor, Positive, Report, Task, UsageError, perform

POLL = 1.0
"""Seconds between two looks at what is done."""


class Slurm(Executor):
    """Jobs of a Slurm cluster, for plans whose jobs take minutes or more.

    Where they take seconds, one allocation with `--executor local`, or an array of `--shard`, spends
    less time in the queue. Cache and data must lie where all nodes see them.
    """

    name = "slurm"

    cluster: Literal["slurm", "local"] = "slurm"
    """`local` runs the same on this machine, without Slurm, to try it."""
    partition: str = ""
    account: str = ""
    minutes: Count = 240
    """After which Slurm stops a job; it goes on from its checkpoint when it is started again."""
    gpus: int = 1
    """Of each job; 0 for CPU nodes."""
    cpus: Count = 2
    memory: Positive = 16.0
    """GB of each job."""
    most: Count = 100
    """Jobs in the queue at once."""
    constraint: str = ""
    """Features that nodes must have, such as a100."""

    def engine(self, site: str) -> Engine:
        try:
            import submitit
        except ImportError:
            raise UsageError("slurm is not installed: pip install 'nfbench[slurm]'") from None
        folder = Path(json.loads(site)["store"]) / "slurm"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # submitit exchanges pickles there
        try:
            executor = submitit.AutoExecutor(folder=folder / "%j", cluster=self.cluster)
        except RuntimeError as error:
            raise UsageError(f"--executor slurm: {error}; run this where sbatch is") from None
        told: dict[str, Any] = {
            "name": "nfbench",
            "timeout_min": self.minutes,
            "cpus_per_task": self.cpus,
            "mem_gb": self.memory,
            "gpus_per_node": self.gpus,
        }
        if self.cluster == "slurm":
            own = {
                "partition": self.partition,
                "account": self.account,
                "constraint": self.constraint,
            }
            told |= {f"slurm_{name}": value for name, value in own.items() if value}
            told["slurm_additional_parameters"] = {"requeue": True}
            told["slurm_setup"] = ["export OMP_NUM_THREADS=1"]
        executor.update_parameters(**told)
        return _Queue(executor, site, "cuda" if self.gpus else "cpu", self.most)


@dataclass(eq=False)
class _Queue(Engine):
    executor: Any
    site: str
    device: str
    slots: int
    _running: dict[str, tuple[Any, Task]] = field(default_factory=dict)

    def submit(self, task: Task) -> None:
        job = self.executor.submit(_Work(self.site, task.payload, self.device))
        self._running[job.job_id] = (job, task)

    def wait(self, seconds: float) -> list[Report]:
        end = time.monotonic() + max(seconds, POLL)
        while not (done := [number for number, (job, _) in self._running.items() if job.done()]):
            if time.monotonic() > end:
                return []
            time.sleep(POLL / 10)
        return [self._report(number) for number in done]

    def _report(self, number: str) -> Report:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        job, task = self._running.pop(number)
        try:
            return Report.from_json(job.result())
        except FailedJobError as error:
            last = str(error).strip().splitlines()[-1]
            return Report(task.key, "failed", reason=f"{task.label}: {last}", traceback=str(error))
        except UncompletedJobError as error:
            why = str(error).splitlines()[0]
            return Report(task.key, "lost", reason=f"job {number} ended without a result ({why})")

    def close(self, *, abandon: bool) -> None:
        for job, _ in self._running.values():
            job.cancel()
        self._running.clear()


@dataclass(frozen=True)
class _Work:
    """A task as submitit takes it, pickled between this machine's user and himself."""

    site: str
    payload: str
    device: str

    def __call__(self) -> str:
        return perform(self.site, self.payload, self.device)

    def checkpoint(self) -> Any:
        """Its time is over: the same again, which goes on from what the job has kept."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
