"""A defense that keeps its contract, for mistakes to be planted in."""

from torch import nn

from nfbench import Defense, Detector


class Good(Defense):
    """Bright images are suspicious."""

    name = "good"

    def fit(self, classifier, data):
        return {"mean": data.clean.x.mean()}

    def detector(self, classifier, state):
        return GoodDetector(classifier, state["mean"])


class GoodDetector(Detector):
    def __init__(self, classifier, mean):
        super().__init__(classifier)
        self.mean = nn.Buffer(mean)

    def score(self, x):
        return x.flatten(1).mean(1) - self.mean
