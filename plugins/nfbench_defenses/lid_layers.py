"""The layers of a classifier beside a reference batch: what LID is estimated of, each once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nfbench import Classifier, Images, Logits, Trace, UsageError, did_you_mean
from nfbench_defenses.lid_distances import (
    Reference,
    lid,
    reference_of,
    rows_of,
    squared_distances,
)

INPUT, SOFTMAX = "input", "softmax"
"""Layers that no network has; a network's own layer of that name is left out."""
_DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
_NO_CHANGE = (*_DROPOUT, nn.Identity, nn.Flatten, nn.Unflatten)
"""In eval mode these put out the numbers that went in."""
_PART = 32
"""Reference images that go through the classifier at once."""


def require_layers(layers: tuple[str, ...] | None, classifier: Classifier) -> None:
    """Refuse names of layers that `classifier` does not have.

    Raises:
        UsageError: naming the nearest layers that it has.
    """
    known = list(dict.fromkeys([INPUT, *classifier.layers(), SOFTMAX]))
    listed = f"(layers: {', '.join(known)})"
    if layers is not None and not layers:
        raise UsageError(f"lid.layers names no layer; name some or leave it unset {listed}")
    for name in layers or ():
        if name not in known:
            hint = did_you_mean(name, known)
            raise UsageError(f"lid.layers: the network has no layer {name!r}{hint} {listed}")


class Profile:
    """A reference batch as every layer sees it."""

    def __init__(
        self,
        classifier: Classifier,
        images: Images,
        layers: tuple[str, ...] | None,
        k: int,
        *,
        skip_first: bool = True,
    ) -> None:
        """Run `images` (M, C, H, W) through the classifier.

        Args:
            classifier: in eval mode.
            images: what later images are compared with.
            layers: names of layers, `input` and `softmax`; None for all.
            k: neighbours that an estimate is made of.
            skip_first: whether the nearest of `images` is no neighbour.

        Raises:
            UsageError: for a layer that yields no tensor.
        """
        self._classifier, self._k, self._skip_first = classifier, k, skip_first
        self._modules = dict(classifier.network.named_modules())
        self._wanted = [INPUT, *classifier.layers(), SOFTMAX] if layers is None else list(layers)
        self.names = [name for name in self._wanted if name in self._modules]
        activations = self._reference_batch(images)
        silent = set(layers or ()) - set(map(self._module, activations))
        if silent:
            raise UsageError(
                f"lid.layers: {min(silent)!r} yields no tensor in a forward pass; leave it out"
            )
        self._references: dict[str, Reference] = {}
        self._columns: list[str] = []  # of each layer, the one whose estimate it shares
        for name, activation in activations.items():
            before = self._columns[-1] if self._columns else ""
            if before and self._repeats(name, activation, activations[before]):
                self._columns.append(before)
            else:
                self._columns.append(name)
                self._references[name] = reference_of(activation)
        compared = set(map(self._module, self._references))
        self.names = [name for name in self.names if name in compared]

    def look(self, x: Images) -> tuple[Logits, Tensor]:
        """Logits and LID at each layer in order of execution, from one pass. -> (B, K), (B, L)"""
        trace = self._classifier.trace(x, self.names)
        return trace.logits, self._estimates(self._opened(x, trace))

    def open(self, x: Images) -> tuple[Logits, Tensor, Tensor]:
        """As `look`, and the activations of all layers, side by side. (B, D)

        Each layer in units of the reference batch's spread there, so that all count alike; one that
        repeats the layer before is left out.
        """
        trace = self._classifier.trace(x, self.names)
        activations = self._opened(x, trace)
        parts = [rows_of(activations[name]) / _spread(of) for name, of in self._references.items()]
        return trace.logits, self._estimates(activations), torch.cat(parts, 1)

    def _estimates(self, activations: dict[str, Tensor]) -> Tensor:
        """LID of images at each layer, from what `_opened` gives. (B, L)"""
        found = {}
        for name, reference in self._references.items():
            squared = squared_distances(activations[name], reference, but_nearest=self._skip_first)
            found[name] = lid(squared, self._k, skip_first=self._skip_first)
        return torch.stack([found[name] for name in self._columns], 1)

    @torch.no_grad()
    def _reference_batch(self, images: Images) -> dict[str, Tensor]:
        parts = images.tensor_split(max(1, len(images) // _PART))
        seen = [self._opened(x, self._classifier.trace(x, self.names)) for x in parts]
        return {name: torch.cat([part[name] for part in seen]) for name in seen[0]}

    def _opened(self, x: Images, trace: Trace) -> dict[str, Tensor]:
        """Activations of the wanted layers in order of execution."""
        own = {n: a for n, a in trace.activations.items() if n not in (INPUT, SOFTMAX)}
        every = {INPUT: x, **own, SOFTMAX: trace.logits.softmax(1)}
        return {name: a for name, a in every.items() if self._module(name) in self._wanted}

    def _module(self, name: str) -> str:
        """`relu` of `relu#2`, which is what the second run of `relu` is called."""
        return name if name in self._modules or "#" not in name else name.rpartition("#")[0]

    def _repeats(self, name: str, activation: Tensor, before: Tensor) -> bool:
        """Whether a layer repeats the one before; what a function between them did would show."""
        idle = isinstance(self._modules.get(self._module(name)), _NO_CHANGE)
        return idle and torch.equal(activation.flatten(1), before.flatten(1))


def _spread(reference: Reference) -> Tensor:
    """Root mean squared distance of the reference batch from its mean; 1 if there is none. Scalar"""
    spread = reference.norms.mean().sqrt()
    return spread.where(spread > 0, 1.0)
