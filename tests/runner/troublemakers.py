"""Plugins that do what plugins must not, each in one way."""

from types import SimpleNamespace

import torch

from nfbench import Detector
from nfbench_attacks.gradient import FGSM
from nfbench_defenses.trivial import MaxSoftmax


def detecting(title, rule):
    """A defense called `title` whose detector scores by `rule(x)`."""

    class Bad(Detector):
        def score(self, x):
            return rule(x)

    class BadDefense(MaxSoftmax):
        name = title

        def detector(self, classifier, state):
            return Bad(classifier)

    return BadDefense


def attacking(title, rule):
    """An attack called `title` that answers `rule(x)`."""

    class BadAttack(FGSM):
        name = title

        def perturb(self, objective, x, budget, draws):
            return rule(x)

    return BadAttack


def stumble(*_):
    raise RuntimeError("stumbled [over] the\nfirst image")


def interrupt(*_):
    raise KeyboardInterrupt


def scribble(x):
    x.zero_()
    return x.clone()


DEFENSES = {
    "nan-scores": (lambda x: torch.full((len(x),), torch.nan), "the detector returned NaN for"),
    "two-scores": (
        lambda x: torch.zeros(len(x), 2),
        r"score must return one number an image, \(B,\); got \(\d+, 2\)",
    ),
    "mean-score": (lambda x: x.mean(), r"one number an image, \(B,\); got \(\)"),
    "crash-score": (stumble, r"RuntimeError: stumbled \[over\] the first image"),
}
ATTACKS = {
    "stumble": (stumble, r"RuntimeError: stumbled \[over\] the first image"),
    "too-far": (
        lambda x: 1 - x,
        r"too-far left the ball or the box on \d+ of \d+ images: linf 1 of 0.25",
    ),
    "off-box": (lambda x: x + 0.1, r"off-box left the ball or the box .* pixels 0.1 to 1.1"),
    "nan-pixels": (lambda x: x * torch.nan, "nan-pixels returned pixels that are not finite"),
    "too-few": (lambda x: x[:1], r"too-few must return images of shape .* got \(1, 1, 8, 8\)"),
    "scribble": (scribble, "scribble wrote into the images it was given"),
    "silent": (lambda x: None, "AttributeError"),
}


def plugin():
    """All of them, and an attack that is interrupted from the keyboard."""
    attacks = [attacking(name, rule) for name, (rule, _) in ATTACKS.items()]
    attacks.append(attacking("ctrl-c", interrupt))
    return SimpleNamespace(
        nfbench_defenses=lambda: [detecting(name, rule) for name, (rule, _) in DEFENSES.items()],
        nfbench_attacks=lambda: attacks,
    )
