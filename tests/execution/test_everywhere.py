"""Wherever jobs run, the artifacts have the same bytes and the cells the same records."""

from dataclasses import replace

import pytest

from nfbench.core.errors import UsageError
from nfbench.core.registry import Registry
from nfbench.runner.crew import Crew
from nfbench.runner.options import Options
from nfbench.runner.plan import make_plan
from nfbench.runner.sharding import ELSEWHERE, closure, parse_shard, shard
from nfbench.runner.spec import resolve
from nfbench.session import Place, execute
from nfbench.store import Store

OPTIONS = Options(
    defense=("neuralfp", "kd"),
    attacks=("fgsm", "bim-b"),
    threat_model=("partial-whitebox", "adaptive-whitebox"),
    limit=30,
    train_limit=60,
    settings={
        "training": {"epochs": 1, "images": 400},
        "neuralfp": {"fingerprints": 2},
        "bim-b": {"steps": 3},
    },
)


@pytest.fixture(scope="module")
def registry():
    return Registry.load()


def numbers(run):
    """All of a run's records but when and where."""
    return [
        (cell.cell, cell.status, {k: v for k, v in cell.metrics.items() if not k.startswith("latency")})
        for cell in run.cells
    ]


def digests(store, plan):
    return {k: store.manifest(k)["sha256"] for k, job in plan.jobs.items() if job.kind != "time"}


@pytest.fixture(scope="module")
def here(registry, tmp_path_factory):
    """In this process, one job at a time."""
    folder = tmp_path_factory.mktemp("here")
    return execute(OPTIONS, Place(folder / "run", folder / "cache", "cpu"), registry, Silent()), folder


class Silent:
    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *arguments: self.told.append((name, *arguments))


def test_two_processes_make_the_same(here, registry, tmp_path):
    alone, folder = here
    local = registry.find("executor", "local").load().from_params({"devices": ["cpu:2"]})
    watcher = Silent()
    with Crew(local) as crew:
        place = Place(tmp_path / "run", tmp_path / "cache", "cpu", crew=crew)
        found = execute(OPTIONS, place, registry, watcher)
        assert found.outcome.ran == alone.outcome.ran == len(alone.plan.jobs)
        assert execute(OPTIONS, place, registry, watcher).outcome.ran == 0
    one, two = Store(folder / "cache"), Store(tmp_path / "cache")
    assert digests(one, alone.plan) == digests(two, found.plan)
    assert numbers(alone.run) == numbers(found.run)
    finished = [job for name, job, *_ in watcher.told if name == "finished"]
    assert len(finished) == found.outcome.ran


def test_shards_together_are_the_whole(here, registry, tmp_path):
    alone, folder = here
    for number in (1, 2, 3):
        place = Place(tmp_path / f"run{number}", tmp_path / "cache", "cpu", shard=(number, 3))
        part = execute(OPTIONS, place, registry, Silent())
        assert {c.reason for c in part.run.cells if c.status == "skipped"} == {ELSEWHERE}
        assert part.outcome.ran > 0
    merged = execute(OPTIONS, Place(tmp_path / "run", tmp_path / "cache", "cpu"), registry, Silent())
    assert merged.outcome.ran == 0
    assert numbers(merged.run) == numbers(alone.run)
    assert digests(Store(folder / "cache"), alone.plan) == digests(Store(tmp_path / "cache"), alone.plan)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40])
def test_every_cell_is_of_one_shard_and_each_has_all_it_needs(registry, count):
    plan = make_plan(resolve(OPTIONS, registry))
    parts = [shard(plan, number, count) for number in range(1, count + 1)]
    names = [cell.name for part in parts for cell in part.cells if not cell.reason]
    assert sorted(names) == sorted(cell.name for cell in plan.cells if not cell.reason)
    for part in parts:
        needed = closure(plan, part.wanted)
        assert part.jobs.keys() == needed
    assert shard(plan, 1, count).cells == parts[0].cells


def test_shards_are_of_about_equal_weight_and_share_few_trainings(registry):
    plan = make_plan(resolve(replace(OPTIONS, seed=(0, 1, 2)), registry))
    weights = [sum(job.weight for job in shard(plan, n, 2).jobs.values()) for n in (1, 2)]
    whole = sum(job.weight for job in plan.jobs.values())
    assert max(weights) < 0.65 * whole


@pytest.mark.parametrize("text", ["", "2", "0/3", "4/3", "-1/3", "a/b", "1/0", "1.5/3"])
def test_a_shard_that_can_not_be_is_refused(text):
    with pytest.raises(UsageError, match="expected i/N with 1 <= i <= N"):
        parse_shard(text)


def test_a_plugin_that_only_this_process_has_is_refused_before_any_work(tmp_path):
    from nfbench_defenses.trivial import MaxSoftmax

    class Own(MaxSoftmax):
        name = "own"

    class Plugin:
        @staticmethod
        def nfbench_defenses():
            return [Own]

    given = Registry.load(Plugin())
    local = given.find("executor", "local").load().from_params({"devices": ["cpu:1"]})
    options = Options(defense=("own",), attacks=("fgsm",), limit=20)
    with Crew(local) as crew, pytest.raises(UsageError, match="can't run in another process"):
        execute(options, Place(tmp_path / "run", tmp_path / "cache", "cpu", crew=crew), given, Silent())
