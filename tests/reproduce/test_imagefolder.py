"""MiniImagenet-20 as a folder of one's own: 20 groups of real photographs run as Table 5 does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nfbench.cli.progress import Display
from nfbench.reproduce.concluding import conclude
from nfbench.reproduce.evidence import Ran
from nfbench.reproduce.keeping import Found
from nfbench.reproduce.paper import papers
from nfbench.reproduce.scaling import settle
from nfbench.session import Place, execute

SHARED = Path(__file__).parents[3] / "shared" / "data" / "cifar10"
PAPER = papers()[0]


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """20 groups of CIFAR-10 images by their mean brightness and tint, 12 to train on and 4 to test."""
    if not SHARED.is_dir():
        pytest.skip("no CIFAR-10: there is no shared/data beside the checkout")
    sheet = np.asarray(Image.open(SHARED / "test-00.webp").convert("RGB"))
    images = sheet.reshape(50, 32, 50, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    colour = images.mean((1, 2))  # (2500, 3)
    by_light = np.argsort(colour.sum(1)).reshape(5, 500)
    root = tmp_path_factory.mktemp("groups")
    for i, lit in enumerate(by_light):
        tinted = lit[np.argsort(colour[lit, 0] - colour[lit, 2])].reshape(4, 125)
        for j, group in enumerate(tinted):
            chosen = group[40:56]  # from the middle of the group
            for k, row in enumerate(chosen):
                folder = root / ("train" if k < 12 else "test") / f"n{i}{j}"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[row]).save(folder / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def ran(groups, tmp_path_factory):
    from nfbench.cli.console import plain_console
    from nfbench.core.registry import Registry

    settled = settle(PAPER, "imagenet20-static", "smoke", "imagefolder")
    assert not settled.stand_in
    options = settled.options(groups)
    # Fewer fingerprints and pixels than the paper's, or two cores would take an hour.
    small = {
        "imagefolder": {"size": 48},
        "neuralfp": {**options.settings["neuralfp"], "fingerprints": 2},
        "training": {**options.settings["training"], "epochs": 12, "batch_size": 32},
    }
    options = replace(options, settings={**options.settings, **small})
    place = tmp_path_factory.mktemp("ran")
    with Display(plain_console(stderr=True), quiet=True) as display:
        done = execute(options, Place(place / "out", place / "cache"), Registry.load(), display)
    told = {"experiment": settled.name, "scale": "smoke", "stand_in": "", "sizes": settled.sizes}
    return Ran(replace(done.run, info={**done.run.info, "reproduces": told}))


def test_table_5_runs_on_20_groups_of_photographs(ran):
    cells = {cell.attack.name: cell for cell in ran.run.cells}
    assert cells.keys() == {"fgsm", "bim-b"}
    for cell in cells.values():
        assert cell.finished, cell.reason
        assert cell.model["name"] == "alexnet-table7"
        assert cell.eps == pytest.approx(16 / 255)
        assert cell.defense.params["preset"] == "code-imagenet"
        assert cell.metrics["auroc_returned"].value is not None
    shapes = {tuple(images["clean"].shape[1:]) for images in ran.run.images.values()}
    assert shapes == {(3, 48, 48)}


def test_its_claims_are_judged_or_say_that_the_classifier_is_another(ran):
    found = Found({"imagenet20-static": [ran]}, {})
    claims = [(PAPER, claim) for claim in PAPER.claims if claim.id.startswith("table5.")]
    for row in conclude(claims, found):
        assert row.verdict.ours is not None
        assert (
            row.verdict.word in ("confirmed", "contradicted", "inconclusive")
            or "accuracy" in row.verdict.why
        )
