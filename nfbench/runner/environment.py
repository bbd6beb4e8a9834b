"""What produced the numbers of an artifact: versions, device, instruction set, source revision."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nfbench.core.errors import UsageError

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scikit-learn",
    "foolbox",
    "adversarial-robustness-toolbox",
)


def pick_device(name: str) -> str:
    """`auto` is a GPU where there is one.

    Raises:
        UsageError: for a device that is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return name


def environment_of(device: str) -> dict[str, Any]:
    """What produced the numbers: versions, device, instruction set, source revision."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()
    return {
        "nfbench": version("nfbench"),
        "python": platform.python_version(),
        "packages": {package: _version(package) for package in _PACKAGES},
        "device": f"{device} ({name})",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads_per_job": 1,
        **_revision(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


@cache
def _revision() -> dict[str, Any]:
    """Commit of the source tree nfbench runs from, and whether it was changed; empty if installed."""
    tree = Path(__file__).parents[2]
    commit = _git(tree, "rev-parse", "HEAD") if (tree / "pyproject.toml").is_file() else ""
    if not commit:
        return {"git_commit": "", "git_dirty": None}
    return {"git_commit": commit, "git_dirty": bool(_git(tree, "status", "--porcelain", "-uno"))}


def _git(tree: Path, *arguments: str) -> str:
    """What git says of a source tree; empty where there is none."""
    command = ["git", "-C", str(tree), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
