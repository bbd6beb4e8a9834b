"""Leases: one holder at a time, and none that is dead."""

import json
import os
import socket
import subprocess
import sys

import pytest

from nfbench import leases as leases_module
from nfbench.leases import EXPIRY, Held, Leases


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def leases(tmp_path, clock):
    return Leases(tmp_path / "leases", clock)


def test_a_lease_is_held_by_one_and_given_back(leases, tmp_path):
    other = Leases(tmp_path / "leases")
    with leases.take("key", "a job", "cpu") as mine:
        assert mine
        said = other.running("key")
        assert (said["label"], said["device"], said["pid"]) == ("a job", "cpu", os.getpid())
        with other.take("key") as theirs:
            assert not theirs
        with other.take("another") as theirs:
            assert theirs
    assert not list((tmp_path / "leases").iterdir())
    with other.take("key") as theirs:
        assert theirs


def test_it_is_given_back_when_the_job_fails(leases, tmp_path):
    with pytest.raises(KeyboardInterrupt), leases.take("key"):
        raise KeyboardInterrupt
    assert not list((tmp_path / "leases").iterdir())


def foreign(tmp_path, **changes):
    """The lease of a process of another machine."""
    about = {"token": "t", "host": "elsewhere", "pid": 1, "started": "", "beat": 0, "share": 0.0}
    path = tmp_path / "leases" / "key.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(about | changes))
    return path


def test_one_of_another_machine_is_void_once_it_is_silent_for_long(leases, clock, tmp_path):
    path = foreign(tmp_path)
    for clock.now in (0, EXPIRY, EXPIRY + 1):
        with leases.take("key") as mine:
            assert mine == (clock.now > EXPIRY)
        if clock.now == 0:
            foreign(tmp_path)
    assert not path.exists()


def test_a_sign_of_life_keeps_it(leases, clock, tmp_path):
    for beat in range(5):
        foreign(tmp_path, beat=beat)
        with leases.take("key") as mine:
            assert not mine
        clock.now += EXPIRY - 1


@pytest.mark.parametrize("mtime", [0, 2**33])
def test_clocks_of_files_do_not_matter(leases, clock, tmp_path, mtime):
    path = foreign(tmp_path)
    os.utime(path, (mtime, mtime))
    with leases.take("key") as mine:
        assert not mine


def test_a_dead_process_of_this_machine_holds_nothing(leases, tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    foreign(tmp_path, host=socket.gethostname(), pid=dead.pid)
    with leases.take("key") as mine:
        assert mine


def test_another_process_of_the_same_number_does_not_keep_it(leases, tmp_path):
    foreign(tmp_path, host=socket.gethostname(), pid=os.getpid(), started="boot-12345")
    with leases.take("key") as mine:
        assert mine
    own = leases_module.started_of(os.getpid())
    assert own
    foreign(tmp_path, host=socket.gethostname(), pid=os.getpid(), started=own)
    with leases.take("key") as mine:
        assert not mine


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": 3}'])
def test_an_unreadable_one_expires_like_that_of_another_machine(leases, clock, tmp_path, content):
    foreign(tmp_path).write_text(content)
    with leases.take("key") as mine:
        assert not mine
    clock.now = EXPIRY + 1
    with leases.take("key") as mine:
        assert mine


def test_whoever_lost_his_lease_leaves_that_of_the_next_alone(tmp_path):
    path = foreign(tmp_path, token="next")
    Held(path, {"token": "mine", "beat": 3}).beat()
    assert json.loads(path.read_text())["token"] == "next"
    held = Held(path, {"token": "next", "beat": 3, "share": 0.5})
    held.beat()
    assert json.loads(path.read_text()) == {"token": "next", "beat": 4, "share": 0.5}


def test_where_leases_can_not_be_written_jobs_run_without(tmp_path):
    (tmp_path / "leases").touch()  # no folder can be made here
    with Leases(tmp_path / "leases").take("key") as mine:
        assert mine


def test_how_far_a_job_is_can_be_read_by_others(leases, tmp_path):
    with leases.take("key"):
        leases.tick(0.25)
        leases._held.beat()
        assert Leases(tmp_path / "leases").running("key")["share"] == 0.25
    assert Leases(tmp_path / "leases").running("key") == {}
