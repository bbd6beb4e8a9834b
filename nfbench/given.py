"""What `nfbench.evaluate` is given: checked, and turned into recipes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nfbench.core.attack import Attack
from nfbench.core.defense import Gradient
from nfbench.core.errors import UsageError
from nfbench.core.offers import Kind
from nfbench.core.recipe import Recipe
from nfbench.core.registry import Registry
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Images, Labels
from nfbench.runner.surrogates import unfollowable

Given: TypeAlias = str | Mapping[str, Any] | Recipe
_KINDS: Mapping[Kind, type[Recipe]] = {"attack": Attack, "threat-model": ThreatModel}


def classes_of(network: nn.Module, x: Images) -> int:
    """How many classes the network tells apart; it is tried on two images."""
    try:
        with torch.no_grad():
            logits = network.eval()(x[:2])
    except Exception as error:  # whatever the network raises on images it was not made for
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"the classifier can't take images (N, C, H, W) of shape {tuple(x.shape)}: {reason}"
        ) from None
    if not isinstance(logits, Tensor) or logits.shape[:1] != x[:2].shape[:1] or logits.dim() != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UsageError(f"the classifier must return logits (B, K); got {got} for {len(x[:2])} images")
    return logits.shape[1]


def require_runnable(attacks: Sequence[Attack], threats: Sequence[ThreatModel], eps: float) -> None:
    """Refuse what would fail, or overwrite another result, after hours of work."""
    if not eps > 0:
        raise UsageError(f"eps must be positive, in pixel units of [0, 1]; got {eps}")
    names = [recipe.name for recipe in (*attacks, *threats)]
    if len(set(names)) < len(names):
        raise UsageError(f"results are told apart by name, give each once; got {', '.join(names)}")
    for attack, threat in product(attacks, threats):
        if not attack.minimises and math.isinf(eps):
            raise UsageError(f"{attack.name} needs a bound; got eps = {eps}")
        if threat.transfers:
            raise UsageError(
                f"{threat.name} needs replicas, which nothing here can train: make classifier and "
                "detector plugins and use `nfbench run`"
            )
        if reason := threat.mismatch(attack):
            raise UsageError(f"{attack.name} can't run under {threat.name}: {reason}")


def require_followable(
    attacks: Sequence[Attack], threats: Sequence[ThreatModel], gradient: Gradient
) -> None:
    """Refuse gradient attacks where there is none and a surrogate's is not to be followed."""
    for attack, threat in product(attacks, threats):
        if reason := unfollowable("score_fn", gradient, attack, threat):
            raise UsageError(f"{attack.name} can't run under {threat.name}: {reason}")


def require_images(x: Images, y: Labels) -> None:
    if not all(isinstance(given, Tensor) for given in (x, y)):
        raise UsageError(
            f"images and labels must be torch tensors, got {type(x).__name__} and {type(y).__name__}"
        )
    if x.dim() != 4 or y.shape != x.shape[:1] or len(x) == 0:
        raise UsageError(
            f"expected images (N, C, H, W) and N labels, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        raise UsageError(f"images must be (N, C, H, W), got {tuple(x.shape)}; move the channels first")
    if x.dtype != torch.float32 or not (float(x.min()) >= 0 and float(x.max()) <= 1):
        raise UsageError(
            f"images must be float32 in [0, 1], got {x.dtype} in [{x.min().item():.6g}, "
            f"{x.max().item():.6g}]; normalise inside the classifier"
        )
    if y.dtype != torch.int64 or int(y.min()) < 0:
        raise UsageError(f"labels must be int64 from 0, got {y.dtype} from {y.min().item()}")


def recipe_of(registry: Registry, kind: Kind, given: Given) -> Any:
    """A recipe as it is, or the plugin of that name with its own defaults under what is given."""
    if isinstance(given, Recipe):
        if not isinstance(given, _KINDS[kind]):
            raise UsageError(f"{given.name} is no {kind}")
        return given
    params = {"name": given} if isinstance(given, str) else dict(given)
    return registry.find(kind, str(params.pop("name", ""))).load().from_params(params)
