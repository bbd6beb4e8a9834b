"""What BU's scores cost beside T separate passes of the whole network with dropout."""

import torch
from harness import arguments, images, ratio, show, timed
from torch import Tensor, nn

from nfbench import Classifier, FitData, Model
from nfbench_defenses.bu import BU
from nfbench_defenses.passes import Passes, predictive_variance
from nfbench_models.lid_nets import MNISTLid
from nfbench_models.nets import Table8

BATCH, PASSES = 64, 50


class Whole(nn.Module):
    """A network that can't be taken apart, so that every pass runs all of it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits


def separate(classifier: Classifier, x: Tensor) -> Tensor:
    """The obvious way: torch's dropout switched on, pass by pass. (B,)"""
    for module in classifier.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    rows = x.clone(memory_format=torch.channels_last)  # as Classifier lays them out; the faster one
    passes = torch.stack([classifier.network(rows).softmax(1) for _ in range(PASSES)])
    classifier.eval()
    return predictive_variance(passes)


def row_of(model: Model, x: Tensor, split: FitData, repeats: int) -> list[object]:
    """One line of the table; the error is to whole passes with the same masks."""
    torch.manual_seed(0)
    network = model.build((1, 28, 28), 10)
    classifier = Classifier(network, 10).eval().requires_grad_(False)
    defense = BU(passes=PASSES, secret=0)
    detector = defense.detector(classifier, defense.fit(classifier, split)).eval()
    with torch.no_grad():
        runs = {"ours": lambda: detector.score(x), "separate": lambda: separate(classifier, x)}
        seconds = timed(runs, repeats)
        whole = Passes(Classifier(Whole(network), 10).eval(), PASSES, 0)
        error = (1 - detector.score(x).exp() / whole.variance(x)[1]).abs().max()
    milliseconds = [1000 * sorted(seconds[name])[repeats // 2] for name in runs]
    return [model.name, *milliseconds, ratio(seconds, "separate", "ours"), ">= 2", 1e6 * float(error)]


def main() -> None:
    given = arguments(__doc__ or "")
    train = images(given.data_dir).train
    models = [MNISTLid(), Table8(dropout=0.2)]
    rows = [row_of(model, train.x[:BATCH], FitData(train), given.repeats) for model in models]
    headers = [
        "model",
        "nfbench, ms",
        "separate passes, ms",
        "separate / nfbench",
        "goal",
        "error of U, 1e-6",
    ]
    show(f"BU scores of {BATCH} images in {PASSES} passes, CPU time", headers, rows)


if __name__ == "__main__":
    main()
