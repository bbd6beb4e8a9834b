"""Classifiers, images and densities that tests of KD share."""

import torch

from nfbench import Classifier, FitData, Model, Split
from nfbench_defenses.kd import KD
from nfbench_models.nets import DigitsMLP

BANDWIDTHS = [0.26, 1.2, 3.7926]
SHAPE = (1, 8, 8)


def random_classifier(model: Model | None = None, shape=SHAPE) -> Classifier:
    """Untrained, with logits moved so that its predictions differ."""
    torch.manual_seed(0)
    model = model or DigitsMLP(dropout=0.0)
    classifier = Classifier(model.build(shape, 10), 10).eval().requires_grad_(False)
    classifier.network[-1].bias -= classifier(images(shape=shape).x).mean(0)
    return classifier


def images(count: int = 60, seed: int = 1, shape=SHAPE) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(
        torch.rand(count, *shape, generator=generator), torch.arange(count) % 10, torch.arange(count)
    )


def fitted(classifier: Classifier, data: Split | FitData | None = None, **knobs):
    data = images() if data is None else data
    data = data if isinstance(data, FitData) else FitData(data)
    defense = KD(**knobs)
    return defense.detector(classifier, defense.fit(classifier, data)).eval()
