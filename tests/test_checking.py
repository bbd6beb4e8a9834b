"""`check-plugin` and `doctor` say what is wrong, and exit accordingly."""

import socket
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace

import pytest

from nfbench import BrokenPlugin, Dataset, Defense, Detector, Entry, UnknownPlugin, UsageError
from nfbench.cli import checking
from nfbench.core.registry import Registry


class Sound(Defense):
    """The mean of an image."""

    name = "sound"

    def fit(self, classifier, data):
        return {}

    def detector(self, classifier, state):
        return Mean(classifier)


class Mean(Detector):
    def score(self, x):
        return x.mean((1, 2, 3))


class Cut(Sound):
    """Cut off from its input."""

    name = "cut"

    def detector(self, classifier, state):
        return CutMean(classifier)


class CutMean(Mean):
    def score(self, x):
        return super().score(x.detach())


class Untensored(Sound):
    """Returns no tensors."""

    name = "untensored"

    def fit(self, classifier, data):
        return {"threshold": 0.5}


class Talkative(Sound):
    """Names its tensors like markup."""

    name = "talkative"

    def fit(self, classifier, data):
        return {"[bold]:smile:": 0.5}


class Sourced(Sound):
    """Has a hyperparameter that would hide the digest of its source."""

    name = "sourced"
    source: str = "here"


class Demanding(Sound):
    """Needs to be told something."""

    name = "demanding"
    layer: str


class Online(Dataset):
    """Asks the network for its images."""

    name = "online"
    shape = (1, 1, 1)
    num_classes = 2

    def splits(self, data_dir):
        socket.create_connection(("localhost", 9), timeout=1)

    def digest(self, data_dir):
        return ""


def offering(*defenses, datasets=(), bundled=False):
    plugin = SimpleNamespace(nfbench_defenses=lambda: defenses, nfbench_datasets=lambda: datasets)
    return Registry.load(plugin, entry_points=bundled)


def test_a_sound_plugin_passes_every_point(capsys):
    assert checking.check(offering(Sound), "sound") == 0
    said = capsys.readouterr().out
    assert "sound keeps its contract" in said
    assert said.count("passed") == len(checking_titles(said))
    assert "failed" not in said


def checking_titles(said):
    return [line for line in said.splitlines() if line.startswith(("passed", "failed"))]


def test_a_failing_point_is_named_with_its_cause_and_the_rest_is_checked(capsys):
    assert checking.check(offering(Cut), "cut") == 1
    said = capsys.readouterr().out
    assert "failed the score can be followed downhill" in said
    assert "cut: the score is cut off from the image" in said
    assert "cut breaks its contract in 1 of" in said
    assert checking_titles(said)[-1].startswith("passed")


def test_nothing_is_checked_after_a_point_that_the_rest_stands_on(capsys):
    assert checking.check(offering(Untensored), "untensored") == 1
    said = capsys.readouterr().out
    assert "got float as 'threshold'" in said
    assert checking_titles(said)[-1] == "failed fit returns named tensors"
    assert "further checks make no sense" in said


def test_what_a_plugin_says_is_printed_as_it_is(capsys):
    assert checking.check(offering(Talkative), "talkative") == 1
    assert "got float as '[bold]:smile:'" in capsys.readouterr().out


def test_a_hyperparameter_called_like_what_identifies_a_plugin_is_refused():
    with pytest.raises(BrokenPlugin, match="has a hyperparameter 'source'"):
        checking.check(offering(), f"{__name__}:Sourced")


def test_a_plugin_that_has_no_defaults_has_to_be_checked_by_its_author():
    with pytest.raises(UsageError, match=r"demanding\.layer.*nfbench\.testing\.check_defense"):
        checking.check(offering(Demanding), "demanding")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UnknownPlugin, match="did you mean 'sound'"):
        checking.check(offering(Sound), "soundd")


def test_a_plugin_that_cannot_be_imported_is_a_broken_one():
    with pytest.raises(BrokenPlugin, match="no_such_module"):
        checking.check(offering(Entry("gone", "no_such_module:Gone")), "gone")


def test_a_plugin_can_be_checked_by_its_address(capsys):
    assert checking.check(offering(), f"{__name__}:Sound") == 0
    assert "sound keeps its contract" in capsys.readouterr().out


def test_attacks_are_checked_on_the_quick_schedule(registry):
    recipe = checking._recipe(registry, registry.find("attack", "cw"))
    quick = registry.find("dataset", "digits").load().defaults.plugins["cw"]
    assert {k: getattr(recipe, k) for k in quick} == dict(quick)


def test_the_doctor_finds_nothing_wrong_here(registry, capsys, tmp_path):
    assert checking.examine(registry, tmp_path, tmp_path / "cache") == 0
    said = capsys.readouterr().out
    for package in ("nfbench", "torch", "torchvision", "foolbox", "numpy", "scikit-learn"):
        assert f"package  {package} {version(package)}\n" in said
    assert "device   cpu: " in said
    assert "data     digits: ready (1000 train, 400 calibration, 397 test)" in said
    assert "data     mnist: not here" in said
    assert "cache: not made yet, writable" in said
    assert "MISSING" not in said
    assert "BROKEN" not in said
    assert not list(tmp_path.iterdir())


def test_every_line_of_the_doctor_is_one_fact(registry, capsys, tmp_path):
    checking.examine(registry, tmp_path, tmp_path)
    kinds = {"python", "package", "device", "plugins", "data", "cache"}
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == kinds


def test_the_doctor_names_a_broken_plugin_and_why(capsys, tmp_path):
    registry = offering(Sound, Entry("gone", "no_such_module:Gone"))
    assert checking.examine(registry, None, tmp_path) == 3
    said = capsys.readouterr().out
    assert "BROKEN defense gone: " in said
    assert "No module named 'no_such_module'" in said
    assert "plugins  1 of kind defense: sound" in said


def test_the_doctor_names_a_missing_package(registry, capsys, tmp_path, monkeypatch):
    def absent(package):
        if package == "foolbox":
            raise PackageNotFoundError
        return version(package)

    monkeypatch.setattr(checking, "version", absent)
    assert checking.examine(registry, None, tmp_path) == 1
    assert "foolbox is MISSING: pip install foolbox" in capsys.readouterr().out


def test_without_torch_the_doctor_says_so_and_stops(registry, capsys, tmp_path, monkeypatch):
    def absent(package):
        raise PackageNotFoundError

    monkeypatch.setattr(checking, "version", absent)
    assert checking.examine(registry, None, tmp_path) == 1
    assert "not looked at: they need torch" in capsys.readouterr().out


def test_the_doctor_keeps_off_the_network_and_gives_it_back(capsys, tmp_path):
    before = socket.getaddrinfo, socket.create_connection, socket.socket.connect
    checking.examine(offering(datasets=[Online]), None, tmp_path)
    assert "data     online: can't be read (OSError: doctor does not use" in capsys.readouterr().out
    assert (socket.getaddrinfo, socket.create_connection, socket.socket.connect) == before


def test_the_doctor_measures_the_cache_and_names_older_formats(capsys, tmp_path):
    (tmp_path / "v1").mkdir()
    (tmp_path / "v0").mkdir()
    (tmp_path / "v1" / "artifact").write_bytes(b"x" * 3 * 2**20)
    assert checking.examine(offering(), None, tmp_path) == 0
    said = capsys.readouterr().out
    assert f"cache    {tmp_path}: 3.0 MiB, writable" in said
    assert "v0 was written by another version of nfbench" in said


def test_the_doctor_prints_paths_as_they_are(capsys, tmp_path):
    checking.examine(offering(), None, tmp_path / ":smile:[bold]")
    assert f"cache    {tmp_path}/:smile:[bold]: not made yet" in capsys.readouterr().out


def test_a_cache_below_a_file_is_not_writable(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert checking.examine(offering(), None, tmp_path / "file" / "cache") == 1
    assert "NOT writable: set --cache-dir" in capsys.readouterr().out
