"""Classifiers: any network from [0, 1] images to logits, opened up by name."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nfbench.core.errors import UsageError
from nfbench.core.recipe import did_you_mean
from nfbench.core.values import Images, Logits

MIN_ROWS = 32
"""Smaller batches are padded to this in eval mode. Matrix products choose other kernels for few rows
(below 16 with the paper's MNIST net), and would give an image other bits alone than in a batch."""
MEMORY = {"cpu": 2**27, "cuda": 2**32}
"""Bytes of activations one pass may hold. On a CPU more is slower: fresh pages cost up to a third."""


class Trace(NamedTuple):
    """One forward pass, opened up."""

    logits: Logits
    activations: dict[str, Tensor]  # in order of execution, unflattened (B, ...)


class Classifier(nn.Module):
    """A network and its number of classes. Normalisation is the network's own; inputs are in [0, 1]."""

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network, self.num_classes = network, num_classes
        self._row_bytes: dict[tuple[int, ...], int] = {}

    def forward(self, x: Images) -> Logits:
        """Logits of `x`, padded and chunked in eval mode. (B, C, H, W) -> (B, K)"""
        if self.training:
            return self._run(x)
        if not torch.is_grad_enabled() and len(x) > MIN_ROWS:
            chunk = self.rows_within(memory_on(x), x)
            if len(x) > chunk:
                return torch.cat([self._run(_pad(part))[: len(part)] for part in x.split(chunk)])
        return self._run(_pad(x))[: len(x)]

    def trace(self, x: Images, names: Iterable[str] | None = None) -> Trace:
        """Logits and the outputs of named submodules, all attached to the graph.

        A module that runs more than once appears as `relu`, `relu#2`, ...; outputs are cloned, so an
        in-place operation further on cannot change them. Functional calls (`F.relu`) are invisible.

        Raises:
            UsageError: for a name that is no submodule.
        """
        modules = dict(self.network.named_modules())
        wanted = self.layers() if names is None else list(names)
        activations: dict[str, Tensor] = {}
        handles = []
        for name in wanted:
            if name not in modules:
                raise UsageError(
                    f"the network has no layer {name!r}{did_you_mean(name, modules)} "
                    f"(layers: {', '.join(self.layers())})"
                )
            handles.append(modules[name].register_forward_hook(_keep(activations, name, len(x))))
        try:
            logits = self._run(x if self.training else _pad(x))[: len(x)]
        finally:
            for handle in handles:
                handle.remove()
        return Trace(logits, activations)

    def layers(self) -> list[str]:
        """Names of the submodules without children, in order of definition."""
        return [n for n, m in self.network.named_modules() if n and not list(m.children())]

    def rows_within(self, memory: int, x: Images) -> int:
        """How many rows shaped like `x` one forward pass can take in `memory` bytes of activations."""
        shape = tuple(x.shape[1:])
        if shape not in self._row_bytes:
            total = 0

            def count(_module: nn.Module, _inputs: Any, output: Any) -> None:
                nonlocal total
                total += output.numel() * output.element_size() if isinstance(output, Tensor) else 0

            leaves = [m for m in self.network.modules() if not list(m.children())]
            handles = [leaf.register_forward_hook(count) for leaf in leaves]
            try:
                with torch.no_grad():
                    self._run(_pad(x[:1].detach()))
            finally:
                for handle in handles:
                    handle.remove()
            self._row_bytes[shape] = max(1, total // MIN_ROWS) + x[0].numel() * 4
        return max(MIN_ROWS, memory // self._row_bytes[shape])

    def _run(self, x: Images) -> Logits:
        """The network, on images in one memory layout whatever they came in.

        Convolutions choose their kernels by strides, and kernels differ in the last bits; with one
        channel a mere view can change the strides. Channels last is the faster layout on a CPU.
        """
        layout = torch.channels_last if x.dim() == 4 and not x.is_cuda else torch.contiguous_format
        logits: Logits = self.network(x.clone(memory_format=layout))
        return logits


def memory_on(x: Tensor) -> int:
    """Bytes of activations one pass may hold on the device of `x`."""
    return MEMORY.get(x.device.type, MEMORY["cpu"])


def _pad(x: Images) -> Images:
    """`x` with its first image repeated until there are enough rows."""
    missing = MIN_ROWS - len(x)
    return torch.cat([x, x[:1].expand(missing, *x.shape[1:])]) if 0 < missing < MIN_ROWS else x


def _keep(activations: dict[str, Tensor], name: str, rows: int) -> Any:
    runs = 0

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        nonlocal runs
        runs += 1
        if isinstance(output, Tensor):
            activations[name if runs == 1 else f"{name}#{runs}"] = output[:rows].clone()

    return hook
