"""`nfbench.evaluate`: the same numbers as a run, for a detector that is just a function."""

import numpy as np
import pytest
import torch
from halved import Halved
from torch import nn

import nfbench
from nfbench import Access, NFBenchError, UnknownPlugin, UsageError, adhoc
from nfbench.core.registry import Registry
from nfbench.runner.guides import guides
from nfbench.runner.options import Options
from nfbench.runner.workshop import Workshop
from nfbench.session import Place, execute
from nfbench.store import Store
from nfbench_attacks.gradient import FGSM, PGD
from nfbench_datasets.digits import Digits
from nfbench_models.nets import DigitsMLP

PAIRS = [("fgsm", "partial-whitebox"), ("fgsm", "adaptive-whitebox")]


class Quiet:
    """Progress that nobody watches."""

    def __getattr__(self, name):
        return lambda *args: None


def least_confidence(network):
    """Log of the odds against the predicted class."""

    def score(x):
        logits = network(x)
        top, winner = logits.max(1)
        others = logits.scatter(1, winner[:, None], -torch.inf).logsumexp(1)
        return others - torch.logaddexp(top, others)

    return score


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    net = DigitsMLP().build((1, 8, 8), 10)
    data = Digits().splits(None).train
    adam = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        adam.zero_grad()
        nn.functional.cross_entropy(net(data.x), data.y).backward()
        adam.step()
    return net


@pytest.fixture(scope="module")
def test_set():
    test = Digits().splits(None).test
    return test.x[:120], test.y[:120]


@pytest.fixture(scope="module")
def result(network, test_set):
    return nfbench.evaluate(network, least_confidence(network), *test_set, eps=0.15)


def test_every_pair_has_a_row_in_the_table(result):
    table = result.table()
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:]]
    names = {(attack.strip(), threat.strip()) for attack, threat in rows}
    assert names == set(result.metrics) == {*PAIRS, *[("pgd", threat) for _, threat in PAIRS]}
    assert "auroc_worst" in table.splitlines()[0]
    assert "mean_linf" in result.table("mean_linf").splitlines()[0]


def test_vectors_and_images_belong_together(result, network, test_set):
    x, y = test_set[0][60:], test_set[1][60:]  # the first half fixes the threshold
    correct = network(x).argmax(1) == y
    for pair, vectors in result.vectors.items():
        images = result.images[pair]
        assert len(images) == len(vectors["index"]) == int(correct.sum())
        assert torch.equal(y[vectors["index"]], torch.from_numpy(vectors["label"]))
        clean = x[vectors["index"]]
        assert (images - clean).abs().max() <= 0.15 + 2**-23
        assert images.min() >= 0
        assert images.max() <= 1
        assert np.array_equal(network(images).argmax(1).numpy(), vectors["adversarial_prediction"])
        scored = least_confidence(network)(images).detach().numpy()
        assert np.allclose(scored, vectors["adversarial_score"], atol=1e-5)


def test_who_knows_the_detector_evades_it_better(result):
    static, adaptive = (result.metrics["pgd", threat]["auroc_worst"].value for _, threat in PAIRS)
    assert adaptive <= static
    assert result.metrics["pgd", PAIRS[1][1]]["sr_at_5_fpr"].value > 0.3


def test_the_seed_decides_random_starts(network, test_set):
    def images(seed):
        found = nfbench.evaluate(
            network,
            least_confidence(network),
            *test_set,
            eps=0.05,
            attacks=[{"name": "pgd", "steps": 3}],
            threat_models=["partial-whitebox"],
            seed=seed,
        )
        return found.images["pgd", "partial-whitebox"]

    assert torch.equal(images(1), images(1))
    assert not torch.equal(images(1), images(2))


def test_calibration_images_may_be_given(network, test_set):
    held_out = Digits().splits(None).calibration
    found = nfbench.evaluate(
        network,
        least_confidence(network),
        *test_set,
        eps=0.1,
        attacks=[FGSM()],
        calibration=(held_out.x, held_out.y),
    )
    vectors = found.vectors[PAIRS[0]]
    assert len(vectors["test_score"]) == 120
    assert len(vectors["calibration_score"]) == int((network(held_out.x).argmax(1) == held_out.y).sum())


def test_the_numbers_are_those_of_a_run(tmp_path):
    registry = Registry.load()
    climbed = ["margin", "orthogonal"]  # without guides, which are training images in a run
    options = Options(
        defense=("max-softmax",),
        attacks=("fgsm", "bim-a"),
        limit=60,
        settings={
            "training": {"epochs": 3},
            "bim-a": {"steps": 10},
            "adaptive-whitebox": {"objective_names": climbed},
        },
    )
    done = execute(options, Place(tmp_path / "run", tmp_path / "cache", "cpu"), registry, Quiet())
    (train,) = [key for key, job in done.plan.jobs.items() if job.kind == "train"]
    shop = Workshop(registry)
    classifier = shop.classifier(done.plan.jobs[train].recipe, Store(tmp_path / "cache").get(train))
    data = Digits().splits(None)
    found = nfbench.evaluate(
        classifier.network,
        least_confidence(classifier),
        data.test.x[:60],
        data.test.y[:60],
        eps=0.25,
        attacks=["fgsm", {"name": "bim-a", "steps": 10, "step": 0.01}],
        threat_models=["partial-whitebox", {"name": "adaptive-whitebox", "objective_names": climbed}],
        calibration=(data.calibration.x, data.calibration.y),
    )
    assert len(done.run.cells) == 4
    for record in done.run.cells:
        assert record.status == "done", record.reason
        ours = found.metrics[record.attack.name, record.threat_model.name]
        assert ours.keys() == {name for name in record.metrics if not name.startswith("latency")}
        for name, value in record.metrics.items():
            if (
                name not in ours or "nois" in name
            ):  # drawn for positions in the dataset, which images alone don't have
                continue
            assert ours[name].value == pytest.approx(value.value, abs=1e-6), (record.cell, name)


CASES = {
    "channels last": ({"x": lambda x: x.permute(0, 2, 3, 1)}, UsageError, "move the channels first"),
    "other size": ({"x": lambda x: x[:, :, :5]}, UsageError, "(N, C, H, W) of shape (60, 1, 5, 8)"),
    "bytes": (
        {"x": lambda x: (x * 255).to(torch.uint8)},
        UsageError,
        "float32 in [0, 1], got torch.uint8",
    ),
    "beyond the box": ({"x": lambda x: 2 * x}, UsageError, "in [0, 2]"),
    "not a number": ({"x": lambda x: x * float("nan")}, UsageError, "float32 in [0, 1]"),
    "no tensor": ({"x": lambda x: x.numpy()}, UsageError, "must be torch tensors, got ndarray"),
    "flat": ({"x": lambda x: x.flatten(1)}, UsageError, "got (120, 64) and (120,)"),
    "fewer labels": ({"y": lambda y: y[:7]}, UsageError, "got (120, 1, 8, 8) and (7,)"),
    "float labels": ({"y": lambda y: y.float()}, UsageError, "int64"),
    "unknown class": ({"y": lambda y: y + 5}, UsageError, "label 14 is none of the 10 classes"),
    "too few": ({"x": lambda x: x[:20], "y": lambda y: y[:20]}, UsageError, "needs 19"),
    "no room": ({"eps": lambda _: 0.0}, UsageError, "eps must be positive"),
    "no bound": ({"eps": lambda _: float("inf")}, UsageError, "fgsm needs a bound"),
    "no attack": ({"attacks": lambda _: ["fgms"]}, UnknownPlugin, "did you mean 'fgsm'"),
    "twice": ({"attacks": lambda _: ["pgd", PGD(steps=3)]}, UsageError, "give each once"),
    "no knob": ({"attacks": lambda _: [{"name": "pgd", "step_": 1}]}, UsageError, "no hyperparameter"),
    "no such kind": ({"threat_models": lambda _: [FGSM()]}, UsageError, "fgsm is no threat-model"),
    "NaN scores": ({"score_fn": lambda f: lambda x: f(x) * float("nan")}, NFBenchError, "returned NaN"),
    "one score": ({"score_fn": lambda f: lambda x: f(x).mean()}, NFBenchError, "one number an image"),
    "no scores": (
        {"score_fn": lambda f: lambda x: f(x).tolist()},
        UsageError,
        "torch tensor, (B,); got list",
    ),
    "a batch of one": (
        {"classifier": lambda f: lambda x: f(x)[0]},
        UsageError,
        "must return logits (B, K)",
    ),
}


@pytest.mark.parametrize(("changes", "error", "message"), CASES.values(), ids=CASES)
def test_what_cannot_work_is_refused_in_one_line(network, test_set, changes, error, message):
    x, y = test_set
    given = {"classifier": network, "score_fn": least_confidence(network), "x": x, "y": y}
    given |= {"eps": 0.1, "attacks": ["fgsm"], "threat_models": ["partial-whitebox"]}
    given |= {name: change(given[name]) for name, change in changes.items()}
    if not isinstance(given["classifier"], nn.Module):
        given["classifier"] = Wrapped(given["classifier"])
    positional = [given.pop(name) for name in ("classifier", "score_fn", "x", "y")]
    with pytest.raises(error) as caught:
        nfbench.evaluate(*positional, **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Wrapped(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_a_gradient_at_fault_is_told_unless_the_attack_broke_nearly_all_the_same(network, test_set):
    sound = least_confidence(network)
    asked = {"eps": 0.1, "attacks": ["fgsm"], "threat_models": ["adaptive-whitebox"]}
    found = nfbench.evaluate(network, lambda x: Halved.apply(sound(x)), *test_set, **asked)
    told = found.notes["fgsm", "adaptive-whitebox"]
    assert told == [
        "the gradient of the detector's score is more than 10 % off finite differences on 100% of the "
        "images probed"
    ]
    assert not nfbench.evaluate(network, sound, *test_set, **asked).notes
    broken = nfbench.evaluate(network, lambda x: 1e-9 * Halved.apply(sound(x)), *test_set, eps=0.9)
    assert not broken.notes.get(("pgd", "adaptive-whitebox"))


def test_an_attacker_is_shown_the_images_that_his_threat_model_lets_him_judge(
    network, test_set, monkeypatch
):
    asked = []

    def spy(victim, train, seed, access):
        asked.append((victim.detector is not None, access))
        return guides(victim, train, seed, access)

    monkeypatch.setattr(adhoc, "guides", spy)
    threats = ["partial-whitebox", "adaptive-whitebox", "decision-queries"]
    attack = {"name": "hopskipjump-linf", "queries": 50}
    nfbench.evaluate(
        network, least_confidence(network), *test_set, eps=0.2, attacks=[attack], threat_models=threats
    )
    assert asked == [(False, Access.GRADIENT), (True, Access.GRADIENT), (True, Access.DECISION)]


def test_what_minimises_reports_how_near_it_came_beside_what_scores_lowest(network, test_set):
    attack = {"name": "hopskipjump", "queries": 600}
    found = nfbench.evaluate(
        network,
        least_confidence(network),
        *test_set,
        eps=0.2,
        attacks=[attack],
        threat_models=["adaptive-whitebox"],
    )
    pair = "hopskipjump", "adaptive-whitebox"
    near, lowest = found.vectors[pair]["distance"], found.vectors[pair]["l2"]
    evaded = np.isfinite(near)
    assert evaded.mean() > 0.5
    assert (near[evaded] <= lowest[evaded] + 1e-5).all()
    assert found.metrics[pair]["mean_distance"].value == pytest.approx(near[evaded].mean())
