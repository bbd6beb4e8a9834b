"""The executors that come with nfbench."""

from nfbench import Entry, hookimpl


@hookimpl
def nfbench_executors() -> list[Entry]:
    """Offered lazily, so that listing them imports no engine."""
    return [Entry("local", "nfbench_executors.local:Local", "processes of this machine, one a device")]
