"""The command line, called in this process or as a command of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from nfbench import cli


@dataclass(frozen=True)
class Done:
    """What a command left on its two streams, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line it complained in."""
        assert self.out == ""
        (line,) = self.err.splitlines()
        return line


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No variable of the user's, no file of the checkout, no cache but the test's own."""
    for name in [name for name in os.environ if name.startswith("NFBENCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NFBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nfbench(monkeypatch, capfd):
    """Call the entry point with arguments."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["nfbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        streams = capfd.readouterr()
        return Done(stop.value.code or 0, streams.out, streams.err)

    return call


@pytest.fixture
def process(tmp_path):
    """Start the command in a process of its own, which does not outlive the test."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-c", "from nfbench.cli import main; main()", *arguments]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


TINY = ["-d", "max-softmax", "-a", "fgsm", "-t", "partial-whitebox", "--limit", "20"]
TINY += ["--set", "training.epochs=1"]


@pytest.fixture
def tiny():
    """Arguments of a run that takes less than a second."""
    return list(TINY)
