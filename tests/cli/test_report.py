"""`report` of results that others have checked, broken, or written by hand."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save

from nfbench.reading import digest
from nfbench.report import compact
from nfbench.report.evidence import LEVELS
from nfbench.report.run import read
from nfbench.runner.options import Options
from nfbench.session import Place, execute
from nfbench.trust.breaks import Break
from nfbench.trust.lowering import weighed
from nfbench.trust.verification import Verification, digests, write_verification


class Silent:
    """A progress display that shows nothing."""

    def __getattr__(self, name):
        return lambda *_, **__: None


@pytest.fixture(scope="module")
def ran(tmp_path_factory, registry):
    """Two attacks that know a detector, 20 digits, a network trained for one epoch."""
    home = tmp_path_factory.mktemp("ran")
    options = Options(
        defense=("max-softmax",),
        attacks=("fgsm", "bim-a"),
        threat_model=("adaptive-whitebox",),
        limit=20,
        settings={"training": {"epochs": 1}},
    )
    execute(options, Place(home / "run", home / "cache", "cpu"), registry, Silent())
    return home / "run"


@pytest.fixture
def run_dir(ran, elsewhere):
    """A copy to change."""
    shutil.copytree(ran, elsewhere / "r")
    return elsewhere / "r"


def submitted(folder):
    """Images that break every attacked image of the first cell, put beside the results."""
    run = read(folder)
    row, index = run.cells[0], run.samples[run.cells[0].cell]["index"]
    images = np.full((len(index), 1, 8, 8), 0.5, dtype=np.float32)
    scores = np.full(len(index), -9, dtype=np.float32)
    vectors = {"index": index, "images": images, "evasion_score": scores}
    name, data = f"{1:032x}.safetensors", save(vectors)
    (folder / "breaks").mkdir()
    (folder / "breaks" / name).write_bytes(data)
    one = Break(
        row=row.cell,
        date="2026-02-03",
        source="someone",
        images_sha256="0" * 64,
        file=name,
        file_sha256=digest(data),
        nfbench="0.1.0",
        **weighed(run, row, vectors),
    )
    (folder / "breaks.jsonl").write_text(one.model_dump_json() + "\n")


def test_what_others_broke_lowers_the_tables_and_is_told_in_every_file(nfbench, run_dir):
    submitted(run_dir)
    done = nfbench("report", "r")
    assert done.code == 0
    assert "submitted" in done.out
    page = (run_dir / "leaderboard.md").read_text()
    assert "## Broken since" in page
    assert " / 1.000" in next(line for line in page.splitlines() if line.startswith("| max-softmax"))
    assert "2026-02-03" in (run_dir / "report.html").read_text()


def test_what_others_checked_is_told(nfbench, run_dir):
    said = Verification(**digests(read(run_dir), run_dir), level="re-run", notes=["made elsewhere"])
    write_verification(run_dir / "verification.json", said)
    assert nfbench("report", "r").code == 0
    page = (run_dir / "report.html").read_text()
    assert f"re-run: {LEVELS['re-run']}" in page
    assert "made elsewhere" in page
    assert "Trust: **re-run**" in (run_dir / "leaderboard.md").read_text()


def test_a_boards_folder_is_left_alone(nfbench, ran, elsewhere):
    compact.write(read(ran), elsewhere / "mine")
    files = sorted(path.name for path in (elsewhere / "mine").iterdir())
    done = nfbench("report", "mine")
    assert done.code == 2
    assert done.complaint == "error: mine is a board's folder: nfbench leaderboard build mine"
    assert sorted(path.name for path in (elsewhere / "mine").iterdir()) == files


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("summary", 5),
        ("title", None),
        ("environment", None),
        ("environment", {"packages": [1]}),
        ("environment", {"git_commit": {}}),
        ("spec", []),
    ],
)
def test_a_run_json_that_a_stranger_wrote_is_one_line(nfbench, run_dir, field, value):
    path = run_dir / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    done = nfbench("report", "r")
    assert done.code == 5
    assert f"r is damaged ({field}" in done.complaint


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("metrics", {}, "it has no auroc_worst"),
        ("dataset", {"sha256": [1]}, "dataset.sha256 is no text"),
        ("model", {"name": {}}, "model.name is no text"),
    ],
)
def test_a_cell_that_a_stranger_wrote_is_one_line(nfbench, run_dir, field, value, why):
    path = run_dir / "results.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | {field: value}), *rest]) + "\n")
    done = nfbench("report", "r")
    assert done.code == 5
    assert why in done.complaint


def test_attacks_on_other_images_than_their_row_are_one_line(nfbench, run_dir):
    name = read(run_dir).cells[1].cell
    path = run_dir / "samples" / f"{name}.safetensors"
    vectors = dict(read(run_dir).samples[name])
    path.write_bytes(save(vectors | {"index": vectors["index"] + 1}))
    done = nfbench("report", "r")
    assert done.code == 5
    assert f"cell {name!r} attacks other images than its row" in done.complaint
