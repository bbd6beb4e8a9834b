"""Which images of a run are kept to be looked at."""

import numpy as np
import pytest
from safetensors.torch import load_file

from nfbench.picturing import EACH

BOTH = ("partial-whitebox", "adaptive-whitebox")


@pytest.fixture
def run(go, tiny):
    return go(tiny(defense=("kd", "max-softmax"), attacks=("fgsm", "bim-b"), threat_model=BOTH)).run


def test_each_row_and_threat_model_has_pictures_of_the_attack_that_broke_most(run, tmp_path):
    rates = {cell.cell: cell.metrics["sr_at_5_fpr"].value for cell in run.cells}
    places = {(c.row, c.threat_model.name) for c in run.cells}
    kept = [cell for cell in run.cells if cell.cell in run.images]
    assert sorted((c.row, c.threat_model.name) for c in kept) == sorted(places)
    for cell in kept:
        rivals = [c for c in run.cells if (c.row, c.threat_model) == (cell.row, cell.threat_model)]
        assert rates[cell.cell] == max(rates[c.cell] for c in rivals)
    found = load_file(tmp_path / "run" / "gallery.safetensors")
    assert sum(name.startswith("names.") for name in found) == len(run.images) > 0


def test_the_pictures_are_what_the_scores_are_of(run, registry):
    data = registry.find("dataset", "digits").load()().splits(None).test
    assert run.images
    for name, images in run.images.items():
        vectors = run.samples[name]
        assert len(images["index"]) <= EACH
        for index, clean, attacked in zip(
            *(images[k] for k in ("index", "clean", "adversarial")), strict=True
        ):
            (row,) = (data.index == int(index)).nonzero()[0]
            np.testing.assert_array_equal(clean, data.x[row].numpy())
            (place,) = np.flatnonzero(vectors["index"] == index)
            assert np.abs(attacked - clean).max() == pytest.approx(vectors["linf"][place], abs=1e-6)
        order = [int(np.flatnonzero(vectors["index"] == index)[0]) for index in images["index"]]
        scores = vectors["evasion_score"][order]
        broken = scores <= threshold(run, name)  # these come first, the lowest score of all before
        assert broken.tolist() == sorted(broken.tolist(), reverse=True)
        assert (np.diff(scores[broken]) >= 0).all()


def threshold(run, name):
    (cell,) = [cell for cell in run.cells if cell.cell == name]
    return cell.metrics["threshold_at_5"].value
