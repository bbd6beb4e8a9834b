"""A cache that can only be read: what is in it is used, and what is not is refused before any work."""

import os

import pytest

from nfbench.core.errors import UsageError
from nfbench.runner.options import Options
from nfbench.session import Place, execute

OPTIONS = Options(
    defense=("max-softmax",),
    attacks=("fgsm",),
    threat_model=("partial-whitebox",),
    limit=20,
    settings={"training": {"epochs": 1}},
)


def test_a_finished_run_is_read_from_it_and_another_is_refused(registry, notes, tmp_path, monkeypatch):
    place = Place(tmp_path / "run", tmp_path / "cache", "cpu")
    execute(OPTIONS, place, registry, notes)
    real = os.access
    home = tmp_path / "cache" / "v1"
    monkeypatch.setattr(os, "access", lambda path, mode: path != home and real(path, mode))
    again = execute(OPTIONS, Place(tmp_path / "again", tmp_path / "cache", "cpu"), registry, notes)
    assert (again.outcome.ran, {cell.status for cell in again.run.cells}) == (0, {"done"})
    other = Options(**{**vars(OPTIONS), "seed": (1,)})
    done = len(notes.labels)
    with pytest.raises(UsageError, match=r"can't write to the cache .* 6 jobs are not in it"):
        execute(other, place, registry, notes)
    assert len(notes.labels) == done
