"""What the supervised baselines share: a logistic regression on a few features of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from nfbench import Examples, Images, Scores, UsageError

ROWS = 512
"""Images whose features are computed at once."""
_FOLDS = 5
_LEAST_UNIT = 1e-6
"""Of the standard deviation of all log-odds: less is rounding of the features."""
Rows = Literal["all", "block"]
"""Which attacked images train a regression: all, or as many as in the released code of LID, which
tests on the rest. Here they are training images either way, and all may be learnt from."""


def block_split(images: int) -> int:
    """How many attacked images train the regression in the released code of LID; the rest test it.

    Whole minibatches of 100, at most four fifths of the images.
    """
    return int(0.008 * images) * 100


def taught_by(name: str, examples: Examples, rows: Rows) -> Examples:
    """The examples that train a regression.

    Raises:
        UsageError: if there are too few for a block.
    """
    if rows == "all":
        return examples
    count = block_split(len(examples.clean))
    if count == 0:
        raise UsageError(
            f"{name}.rows = 'block' needs 125 attacked images, got {len(examples.clean)}; raise "
            "--train-limit or use all"
        )
    clean = examples.clean.take(torch.arange(count, device=examples.clean.x.device))
    return Examples(clean, examples.adversarial[:count], examples.noisy[:count], examples.attack)


def features_of(extract: Callable[[Images], Tensor], x: Images) -> Tensor:
    """`extract` on a few images at a time, without gradients. (N, C, H, W) -> (N, ...)"""
    with torch.no_grad():
        return torch.cat([extract(part) for part in x.split(ROWS)])


def learn(name: str, extract: Callable[[Images], Tensor], examples: Examples) -> dict[str, Tensor]:
    """`fit_logistic` on what `extract` makes of the examples. (B, C, H, W) -> (B, F) in, state out"""
    kinds = (examples.adversarial, examples.clean.x, examples.noisy)
    return fit_logistic(name, *(features_of(extract, x) for x in kinds))


def fit_logistic(name: str, adversarial: Tensor, clean: Tensor, noisy: Tensor) -> dict[str, Tensor]:
    """Adversarial against clean and noisy rows, as in the released code of LID (Ma et al. 2018).

    Features are scaled to [0, 1] on these rows; C is chosen among 10 by cross-validated accuracy,
    the three rows of one image always on the same side of a fold. The log-odds are then counted from
    the clean rows' median in their interquartile ranges: where an outlier has flattened a feature they
    differ in the seventh digit only, which float32 has not.

    Args:
        name: of the defense, for messages.
        adversarial: features of the attacked images, (N, F).
        clean: those of their originals, row by row.
        noisy: those of the originals with noise.

    Returns:
        The state that `log_odds` reads; float64.

    Raises:
        UsageError: if there are too few images, or features that are not finite or all constant.
    """
    rows = torch.cat([adversarial, clean, noisy]).double().cpu()
    images = len(clean)
    if images < 2:
        raise UsageError(f"{name} can't learn from {images} attacked images; raise --train-limit")
    if not rows.isfinite().all():
        count = int((~rows.isfinite().all(1)).sum())
        raise UsageError(f"{name} can't learn: features of {count} of {len(rows)} images are not finite")
    low, high = rows.amin(0), rows.amax(0)
    if bool((high == low).all()):
        raise UsageError(f"{name} can't learn: its features are the same for all training images")
    span = torch.where(high > low, high - low, 1.0)
    scaled = (rows - low) / span
    weight = _regress(scaled.numpy(), images)
    odds = scaled @ weight
    quarter, median, three_quarters = np.quantile(odds[images : 2 * images].numpy(), [0.25, 0.5, 0.75])
    unit = max(three_quarters - quarter, _LEAST_UNIT * float(odds.std())) or 1.0
    bias = torch.tensor(-median / unit, dtype=torch.float64)
    return {"low": low, "span": span, "weight": weight / unit, "bias": bias}


def _regress(rows: np.ndarray, images: int) -> Tensor:
    """Coefficients; where log-odds are counted from makes no difference. (3 images, F) -> (F,)"""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold

    is_adversarial = np.repeat([1, 0, 0], images)
    folds = GroupKFold(min(_FOLDS, images)).split(rows, groups=np.tile(np.arange(images), 3))
    grid = {"C": np.logspace(-4, 4, 10)}
    search = GridSearchCV(LogisticRegression(max_iter=2000), grid, cv=list(folds))
    return torch.tensor(search.fit(rows, is_adversarial).best_estimator_.coef_[0])


def log_odds(features: Tensor, state: dict[str, Tensor]) -> Scores:
    """Log-odds of being adversarial, counted as `fit_logistic` says; no flat ends, as probability has.

    (B, F) -> (B,), differentiable.
    """
    scaled = (features.double() - state["low"]) / state["span"]
    odds: Scores = ((scaled * state["weight"]).sum(1) + state["bias"]).to(features)
    return odds


class LogOdds(nn.Module):
    """The logistic regression that `fit_logistic` left in a state."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name in ("low", "span", "weight", "bias"):
            self.register_buffer(name, state[name])

    def forward(self, features: Tensor) -> Scores:
        """(B, F) -> (B,)"""
        return log_odds(features, dict(self.named_buffers()))
