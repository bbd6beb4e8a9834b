"""What NeuralFP's scoring costs beside a bare forward pass of the rows it needs."""

import torch
from harness import arguments, images, ratio, show, timed
from torch import nn

from nfbench import Classifier, FitData, Model, Split
from nfbench_defenses.neuralfp import NeuralFP
from nfbench_models.nets import FourConv, Table8

BATCH = 64


def rows_of(model: type[Model], fingerprints: int, split: Split, repeats: int) -> list[object]:
    """One line of the table."""
    torch.manual_seed(0)
    network: nn.Module = model().build(tuple(split.x.shape[1:]), 10)
    classifier = Classifier(network, 10).eval().requires_grad_(False)
    defense = NeuralFP(fingerprints=fingerprints, secret=0)
    detector = defense.detector(classifier, defense.fit(classifier, FitData(split))).eval()
    x = split.x[:BATCH]
    rows = torch.cat([x, *(x + d for d in detector.dx)])
    rows = rows.clone(memory_format=torch.channels_last)  # as Classifier lays them out; the faster one
    with torch.no_grad():
        seconds = timed({"bare": lambda: network(rows), "score": lambda: detector.score(x)}, repeats)
    milliseconds = [1000 * sorted(seconds[name])[repeats // 2] for name in ("bare", "score")]
    return [
        model.name,
        fingerprints,
        len(rows),
        *milliseconds,
        ratio(seconds, "score", "bare"),
        "<= 1.15",
    ]


def main() -> None:
    given = arguments(__doc__ or "")
    train = images(given.data_dir).train
    cases = [(model, n) for model in (Table8, FourConv) for n in (10, 30)]
    rows = [rows_of(model, n, train, 2 * given.repeats + 1) for model, n in cases]
    headers = ["model", "N", "rows", "bare forward, ms", "score, ms", "score / bare", "goal"]
    show(f"NeuralFP scores of {BATCH} images, CPU time", headers, rows)


if __name__ == "__main__":
    main()
