"""The executors that come with nfbench."""

from nfbench import Entry, hookimpl


@hookimpl
def nfbench_executors() -> list[Entry]:
    """Offered lazily, so that listing them imports no engine."""
    home = "nfbench_executors"
    return [
        Entry("local", f"{home}.local:Local", "processes of this machine, one torch thread each"),
        Entry("ray", f"{home}.ray:Ray", "a Ray cluster, or one on this machine"),
        Entry("slurm", f"{home}.slurm:Slurm", "a Slurm cluster, each job a job of its own"),
    ]
