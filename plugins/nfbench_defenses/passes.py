"""Passes of a classifier with its dropout on, and how much its probabilities vary over them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Annotated, Any, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor, nn

from nfbench import Classifier, Images, Logits, Trace, seed_of

Several = Annotated[int, Ge(2)]
"""Passes; of a single one nothing varies."""
ROWS = 512
"""Rows that the layers after the first dropout are run on at once."""
_LEAST = 1e-30
"""Added to a variance before its root is taken, which has no slope at 0."""
_KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class _Step(NamedTuple):
    """A part of a network that is a chain."""

    name: str
    module: nn.Module


class Passes:
    """T passes of a classifier in which its dropout layers are on, and nothing else changes.

    Masks are shared by all images of a call, so that no score depends on the batch. Where the network
    is a chain of modules, what comes before the first dropout is run once, together with the pass
    without dropout; what comes after it is run on many passes at once. Any other network is run as a
    whole, pass by pass. `AlphaDropout` and the function `F.dropout` stay off.
    """

    def __init__(self, classifier: Classifier, passes: int, secret: int | None) -> None:
        self.classifier, self.passes, self.secret = classifier, passes, secret
        steps = list(_chain("", classifier.network))
        first = next((i for i, step in enumerate(steps) if _dropping(step.module)), len(steps))
        is_chain = all(_drops(s.module) or not _dropping(s.module) for s in steps)
        self._suffix = steps[first:] if is_chain else []

    @property
    def traced(self) -> list[str]:
        """Layers whose outputs `logits` needs."""
        return [step.name for step in self._suffix[:1]]

    def variance(self, x: Images, draw: int = 0) -> tuple[Logits, Tensor]:
        """Logits without dropout (B, K), and U (B,), float64."""
        logits, probabilities = self.probabilities(x, draw)
        return logits, predictive_variance(probabilities)

    def probabilities(self, x: Images, draw: int = 0) -> tuple[Logits, Tensor]:
        """Logits without dropout (B, K), and the probabilities of every pass (T, B, K), float64."""
        trace = self.classifier.trace(x, self.traced)
        return trace.logits, self.probabilities_after(trace, x, draw)

    def probabilities_after(self, trace: Trace, x: Images, draw: int) -> Tensor:
        """Those of the images `x` whose pass without dropout is `trace`. (T, B, K) float64"""
        return self.logits(trace, x, draw).double().softmax(2)

    def logits(self, trace: Trace, x: Images, draw: int) -> Tensor:
        """Logits of every pass. (T, B, K)"""
        if not self._suffix:
            return torch.stack([self._whole(x, draw, number) for number in range(self.passes)])
        start = trace.activations[self._suffix[0].name]  # dropout is off there, so this is its input
        size = max(1, ROWS // max(1, len(x)))
        numbers = torch.arange(self.passes).split(size)
        return torch.cat([self._rest(start, draw, some.tolist()) for some in numbers])

    def _rest(self, start: Tensor, draw: int, numbers: list[int]) -> Tensor:
        """The passes `numbers` from the first dropout on. (B, ...) -> (t, B, K)"""
        h, layer = start.expand(len(numbers), *start.shape), 0
        for step in self._suffix:
            if _drops(step.module):
                masks = [self._mask(step.module, h[0], draw, n, layer) for n in numbers]
                h, layer = h * torch.stack(masks), layer + 1
            else:
                h = step.module(h.flatten(0, 1)).unflatten(0, h.shape[:2])
        return h

    def _whole(self, x: Images, draw: int, number: int) -> Logits:
        """One pass of the whole network. (B, K)"""
        layers = count()

        def drop(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return output * self._mask(module, output, draw, number, next(layers))

        dropping = [m for m in self.classifier.network.modules() if _drops(m)]
        handles = [module.register_forward_hook(drop) for module in dropping]
        try:
            return self.classifier.trace(x, []).logits
        finally:
            for handle in handles:
                handle.remove()

    def _mask(self, module: nn.Module, h: Tensor, draw: int, number: int, layer: int) -> Tensor:
        """0, or 1 / (1 - p) where an entry of `h` (B, ...), or a channel, is kept. (1, ...)

        Of the dropout that is the `layer`-th to run in pass `number`; drawn on the CPU.
        """
        assert isinstance(module, _KINDS)
        shape = h.shape[1:]
        if not isinstance(module, nn.Dropout):
            shape = torch.Size([shape[0], *[1] * (len(shape) - 1)])
        generator = torch.Generator().manual_seed(seed_of("bu", self.secret, draw, number, layer))
        kept = torch.rand(shape, generator=generator) >= module.p
        return kept[None].to(h) / (1 - module.p or 1)

    def rows(self, x: Images) -> int:
        """How many whole rows one image costs in memory, at most."""
        if not self._suffix:
            return self.passes + 1
        with torch.no_grad():
            trace = self.classifier.trace(x[:1], self.traced)
        rest = Classifier(nn.Sequential(*(step.module for step in self._suffix)), 1).eval()
        memory = 2**50
        whole = self.classifier.rows_within(memory, x)
        share = whole / rest.rows_within(memory, trace.activations[self._suffix[0].name])
        return 1 + math.ceil(self.passes * share)


def predictive_variance(probabilities: Tensor) -> Tensor:
    """U: population variance over passes, averaged over classes. (T, B, K) -> (B,)

    The trace of the paper's predictive covariance, divided by K as in its code.
    """
    return probabilities.var(0, correction=0).mean(1)


def moments(probabilities: Tensor) -> Tensor:
    """Mean and standard deviation of every class's probability over passes. (T, B, K) -> (B, 2 K)

    Neither is above 1, and unlike the passes themselves both can be compared between draws.
    """
    spread = (probabilities.var(0, correction=0) + _LEAST).sqrt()
    return torch.cat([probabilities.mean(0), spread], 1)


def lacks_dropout(name: str, classifier: Classifier) -> str:
    """Why a classifier can't be asked with dropout on; empty if it can."""
    if _dropping(classifier.network):
        return ""
    return (
        f"{name} needs a classifier with dropout, and this one has no Dropout layer with p > 0: take a "
        "model that has some, such as mnist-lid or cifar-lid, or switch it on where the model has a "
        "`dropout` hyperparameter, such as --set digits-mlp.dropout=0.2"
    )


def _dropping(network: nn.Module) -> bool:
    return any(_drops(module) for module in network.modules())


def _drops(module: nn.Module) -> bool:
    return isinstance(module, _KINDS) and module.p > 0


def _chain(name: str, module: nn.Module) -> Iterator[_Step]:
    """The modules that Sequentials run one after the other, whatever these are."""
    if not isinstance(module, nn.Sequential) or type(module).forward is not nn.Sequential.forward:
        yield _Step(name, module)
        return
    for child, part in module._modules.items():
        if part is not None:
            yield from _chain(f"{name}.{child}" if name else child, part)
