"""Building networks that strangers wrote: tried once, so that what can't work is refused early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nfbench.core.dataset import Facts
from nfbench.core.errors import NFBenchError, UsageError


def build_network(make: Callable[[], Any], facts: Facts, name: str) -> nn.Module:
    """The network that `make` returns, untrained, in eval mode.

    Raises:
        UsageError: if it can't be built, can't take the dataset's images, or has the wrong number of
            classes.
    """
    try:
        network = make()
    except NFBenchError:
        raise
    except Exception as error:  # whatever a stranger's code raises
        raise UsageError(
            f"model {name} can't be built: {type(error).__name__}: {_short(error)}"
        ) from None
    if not isinstance(network, nn.Module):
        raise UsageError(f"model {name} yields {type(network).__name__}, not a torch.nn.Module")
    _try_out(network, facts, name)
    return network


def load_weights(network: nn.Module, path: Path | None) -> None:
    """Fill a network from a safetensors file, if there is one.

    Raises:
        UsageError: if they do not fit.
    """
    if path is None:
        return
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except Exception as error:  # safetensors and torch raise their own and builtin errors
        raise UsageError(f"--weights {path} do not fit the model: {_short(error)}") from None


def _try_out(network: nn.Module, facts: Facts, name: str) -> None:
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.zeros(2, *facts.shape))
    except Exception as error:  # whatever the network raises on images it was not made for
        raise UsageError(
            f"model {name} can't take images of shape {facts.shape}: {_short(error)}"
        ) from None
    if not isinstance(logits, Tensor) or logits.shape != (2, facts.num_classes):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(
            f"model {name} returns {got} for 2 images; the dataset needs (2, {facts.num_classes})"
        )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
