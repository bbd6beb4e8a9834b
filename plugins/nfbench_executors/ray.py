"""Ray: a cluster's workers, or those of this machine. Needs the extra `nfbench[ray]`."""

from __future__ import annotations

import logging
import os
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nfbench import Count, Engine, Executor, NonNegative, Report, Task, UsageError, perform

QUIET = {
    # No report of usage; without an address that takes it, not even one that says so.
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    # A node that is cut off is known to be dead in seconds, not minutes.
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
    "RAY_health_check_period_ms": "3000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Every port of a cluster that is started here listens on this machine alone."""


class Ray(Executor):
    """Workers of a Ray cluster. Its nodes must see the cache and the data under the same paths.

    A job lost with its worker or its node is started again elsewhere. Artifacts go through the
    store, so a node that dies takes none along that is finished.
    """

    name = "ray"

    address: str = ""
    """Of the cluster, such as 10.0.0.1:6379; empty starts one on this machine, for it alone."""
    cpus: Count | None = None
    """Workers of a cluster that is started here; its cores by default."""
    jobs_per_device: Count = 1
    """Jobs that share a GPU."""
    memory: NonNegative = 0.0
    """GiB that a job is counted with when nodes are filled; 0 counts none."""

    def engine(self, site: str) -> Engine:
        for name, value in {**QUIET, **({} if self.address else LOOPBACK)}.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError:
            raise UsageError("ray is not installed: pip install 'nfbench[ray]'") from None
        self._connect(ray)
        gpus = int(ray.cluster_resources().get("GPU", 0))
        cores = int(ray.cluster_resources().get("CPU", 0))
        slots = gpus * self.jobs_per_device or cores
        if not slots:
            raise UsageError(f"the Ray cluster {self.address} has neither GPUs nor CPUs")
        wanted: dict[str, Any] = {"num_cpus": 0 if gpus else 1, "max_retries": 0}
        if gpus:
            wanted["num_gpus"] = 1 / self.jobs_per_device
        if self.memory:
            wanted["memory"] = int(self.memory * 2**30)
        remote = ray.remote(**wanted)(perform)
        return _Cluster(ray, remote, site, "cuda" if gpus else "cpu", slots)

    def _connect(self, ray: Any) -> None:
        path = os.pathsep.join([p for p in sys.path if p])
        variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        given: dict[str, Any] = {"runtime_env": {"env_vars": variables}}
        if self.address:
            _require_listening(self.address)
            given["address"] = self.address
        else:
            given |= {"address": "local", "include_dashboard": False, "num_cpus": self.cpus}
        logging.getLogger("ray").setLevel(logging.ERROR)
        # What it has to say of dead workers would go to standard output, among tables and JSON.
        ray._private.worker.print_to_stdstream = lambda *_, **__: None
        old = os.umask(0o077)  # its token and its session are nobody else's business
        try:
            ray.init(log_to_driver=False, configure_logging=False, **given)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"no Ray cluster at {self.address or 'this machine'}: {reason}") from None
        finally:
            os.umask(old)
        token = Path.home() / ".ray" / "auth_token"
        if token.is_file():
            token.chmod(0o600)


@dataclass(eq=False)
class _Cluster(Engine):
    ray: Any
    remote: Any
    site: str
    device: str
    slots: int
    _running: dict[Any, Task] = field(default_factory=dict)

    def submit(self, task: Task) -> None:
        self._running[self.remote.remote(self.site, task.payload, self.device)] = task

    def wait(self, seconds: float) -> list[Report]:
        done, _ = self.ray.wait(list(self._running), num_returns=1, timeout=seconds)
        more, _ = self.ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [self._report(ref) for ref in {*done, *more}]

    def _report(self, ref: Any) -> Report:
        task = self._running.pop(ref)
        try:
            return Report.from_json(self.ray.get(ref))
        except self.ray.exceptions.RayTaskError as error:  # what the worker could not even begin with
            said = " ".join(str(error.cause).split())
            reason = f"{task.label}: {type(error.cause).__name__}: {said}"
            return Report(task.key, "failed", reason=reason, traceback=str(error))
        except self.ray.exceptions.RayError as error:
            return Report(task.key, "lost", reason=f"its worker died ({type(error).__name__})")

    def close(self, *, abandon: bool) -> None:
        if abandon:
            for ref in self._running:
                self.ray.cancel(ref, force=True)
        self.ray.shutdown()


def _require_listening(address: str) -> None:
    """Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"--address {address}: no Ray cluster answers there ({error})") from None
