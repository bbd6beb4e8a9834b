"""A network of one's own: what it must be like, and that this is found out before any work."""

import pytest
import torch

from nfbench.core.errors import UsageError

NETS = """
import torch
from torch import nn

class Stub(nn.Module):
    def __init__(self, value=0.0, classes=10):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes))
        self.value = value
    def forward(self, x):
        return self.weight.expand(len(x), -1) + x.flatten(1).sum(1, keepdim=True) * self.value

def blind(): return Stub()
def nine(): return Stub(classes=9)
def numb(): return Stub(value=float("nan"))
def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(49, 10))
def text(): return "a network"
def needy(argument): return argument
def listed():
    class Listed(Stub):
        def forward(self, x): return [super().forward(x)]
    return Listed()
"""


@pytest.fixture
def own(tmp_path, monkeypatch, tiny):
    """Options for a network of one's own, with weights."""
    from safetensors.torch import save_file

    (tmp_path / "own_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    save_file({"weight": torch.zeros(10)}, tmp_path / "w.safetensors")
    save_file({"weight": torch.zeros(9)}, tmp_path / "nine.safetensors")

    def options(factory, weights="w.safetensors"):
        path = None if weights is None else tmp_path / weights
        return tiny(model=f"own_nets:{factory}", weights=path)

    return options


@pytest.mark.parametrize(
    ("factory", "weights", "why"),
    [
        (
            "nine",
            "nine.safetensors",
            r"model own_nets:nine returns \(2, 9\) for 2 images; .* needs \(2, 10\)",
        ),
        ("narrow", None, r"model own_nets:narrow can't take images of shape \(1, 8, 8\)"),
        ("text", "w.safetensors", "model own_nets:text yields str, not a torch.nn.Module"),
        ("needy", "w.safetensors", "model own_nets:needy can't be built: TypeError: needy.. missing"),
        ("listed", "w.safetensors", "model own_nets:listed returns list for 2 images"),
        ("blind", "nine.safetensors", "--weights .*nine.safetensors do not fit the model"),
        ("blind", "missing.safetensors", "can't read --weights .*missing.safetensors: No such file"),
        ("blind", "own_nets.py", "--weights .*own_nets.py do not fit the model"),
    ],
)
def test_a_network_that_cannot_work_is_refused_before_any_work(go, own, notes, factory, weights, why):
    with pytest.raises(UsageError, match=why) as caught:
        go(own(factory, weights))
    assert "\n" not in str(caught.value)
    assert not notes.labels


def test_a_network_of_one_kind_of_images_is_refused_for_others(go, tiny, notes):
    with pytest.raises(UsageError, match=r"mnist-table8 can't take images of shape \(1, 8, 8\)"):
        go(tiny(model="mnist-table8"))


def test_a_network_that_returns_nan_fails_its_cells(go, own, notes):
    finished = go(own("numb"))
    assert [c.status for c in finished.run.cells] == ["failed"]
    assert len(notes.failures) == 1
    assert "the model returns logits that are not finite" in notes.failures[0]


def test_given_weights_are_not_trained(go, own):
    finished = go(own("blind"))
    (cell,) = finished.run.cells
    vectors = finished.run.samples[cell.cell]
    assert set(vectors["test_prediction"]) == {0}
    assert cell.metrics["clean_accuracy"].value == (vectors["test_label"] == 0).mean()
