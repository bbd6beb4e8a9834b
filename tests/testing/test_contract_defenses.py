"""What `check_defense` demands of a fit, and each mistake that it refuses."""

import pytest
import torch
import torch.nn.functional as F
from planted import Good, GoodDetector

from nfbench.testing import check_defense


class TrainingMode(Good):
    """Planted."""

    name = "training-mode"

    def fit(self, classifier, data):
        classifier.train()
        classifier(data.clean.x)
        classifier.eval()
        return super().fit(classifier, data)


class LeftInTraining(Good):
    """Planted."""

    name = "left-in-training"

    def fit(self, classifier, data):
        classifier.train()
        return super().fit(classifier, data)


class Hooked(Good):
    """Planted."""

    name = "hooked"

    def fit(self, classifier, data):
        classifier.network.head.register_forward_hook(lambda *_: None)
        return super().fit(classifier, data)


class Overwrites(Good):
    """Planted."""

    name = "overwrites"

    def fit(self, classifier, data):
        data.clean.x.sub_(0.5)
        return super().fit(classifier, data)


class Objects(Good):
    """Planted."""

    name = "objects"

    def fit(self, classifier, data):
        return {"mean": float(data.clean.x.mean())}

    def detector(self, classifier, state):
        return GoodDetector(classifier, torch.tensor(state["mean"]))


class Sequence(Good):
    """Planted."""

    name = "sequence"

    def fit(self, classifier, data):
        return [data.clean.x.mean()]


class Remembers(Good):
    """Keeps what it learnt beside the state."""

    name = "remembers"

    def fit(self, classifier, data):
        object.__setattr__(self, "mean", data.clean.x.mean())
        return {"unused": torch.zeros(1)}

    def detector(self, classifier, state):
        return GoodDetector(classifier, getattr(self, "mean", torch.zeros(())))


class Shared(Good):
    """Planted."""

    name = "shared"

    def fit(self, classifier, data):
        mean = data.clean.x.mean()
        return {"mean": mean, "again": mean}


class LooseTensor(Good):
    """Planted."""

    name = "loose-tensor"

    def detector(self, classifier, state):
        detector = GoodDetector(classifier, state["mean"])
        detector.scale = torch.ones(1)
        return detector


class WritingDetector(GoodDetector):
    def score(self, x):
        with torch.no_grad():
            x.sub_(self.mean)
        return x.flatten(1).mean(1)


class Writing(Good):
    """Planted."""

    name = "writing"

    def detector(self, classifier, state):
        return WritingDetector(classifier, state["mean"])


class SumLoss(Good):
    """Planted."""

    name = "sum-loss"

    def training_loss(self, classifier, x, y):
        return F.cross_entropy(classifier(x), y, reduction="none")


class NumberLoss(Good):
    """Planted."""

    name = "number-loss"

    def training_loss(self, classifier, x, y):
        return F.cross_entropy(classifier(x), y).detach()


class NanLoss(Good):
    """Planted."""

    name = "nan-loss"

    def training_loss(self, classifier, x, y):
        return F.cross_entropy(classifier(x), y) * torch.nan


class Crashes(Good):
    """Planted."""

    name = "crashes"

    def fit(self, classifier, data):
        raise KeyError("layer3")


class Unsupervised(Good):
    """Uses adversarial images that it never asked for."""

    name = "unsupervised"

    def fit(self, classifier, data):
        return {"mean": data.examples.adversarial.mean()}


@pytest.mark.parametrize(
    ("defense", "cause"),
    [
        (TrainingMode, "changed the classifier .*running_mean"),
        (LeftInTraining, "left the classifier in training mode"),
        (Hooked, "left hooks on network.head"),
        (Overwrites, "fit wrote into"),
        (Objects, "tensors only, got float as 'mean'"),
        (Sequence, "dict of tensors, got list"),
        (Remembers, "restored from the stored state scores differently"),
        (Shared, "share memory"),
        (LooseTensor, "LooseTensor.*|GoodDetector.scale stays behind"),
        (Writing, "score wrote into"),
        (SumLoss, "must be a scalar"),
        (NumberLoss, "no gradient"),
        (NanLoss, "must be finite"),
        (Crashes, "raised KeyError while checking that fit leaves the classifier alone: 'layer3'"),
        (Unsupervised, "raised AttributeError"),
    ],
)
def test_a_bad_fit_is_refused(refused, defense, cause):
    refused(check_defense, defense(), cause)


def test_a_defense_that_asks_for_adversarial_images_gets_them():
    check_defense(Unsupervised(learns_from="fgsm"))
