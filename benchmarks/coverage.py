"""How often intervals of an AUROC hold the truth: ours, Wald's, and DeLong's (images counted twice)."""

import argparse
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from tabulate import tabulate

from nfbench.stats import auroc

Vector = NDArray[np.float64]

SIZES = (50, 100, 300, 1000, 2000)
TARGETS = (0.6, 0.8, 0.9, 0.95, 0.99, 0.999)


class Kind(NamedTuple):
    """How scores of an image's two versions hang together."""

    name: str
    correlation: float
    spread: float = 1.0
    """Standard deviation of adversarial scores; clean ones have 1."""
    step: float = 0.0
    """Scores are rounded down to multiples of it; 0: not at all."""
    infinite: float = 0.0
    """Share of attacks that fail."""


KINDS = (
    *(Kind(f"binormal, ρ = {rho:g}", rho) for rho in (-0.5, 0.0, 0.5, 0.9)),
    Kind("binormal, adversarial 3 times as wide", 0.5, spread=3.0),
    *(Kind(f"rounded to standard deviations, ρ = {rho:g}", rho, step=1.0) for rho in (-0.5, 0.5)),
    *(Kind(f"30 % infinite, ρ = {rho:g}", rho, infinite=0.3) for rho in (-0.5, 0.5)),
    Kind("evaded far below or not at all", 0.0, infinite=math.nan),
)


class Scene(NamedTuple):
    """A kind with its AUROC settled."""

    kind: Kind
    shift: float
    infinite: float
    true: float

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Vector, Vector]:
        clean, noise = rng.normal(size=(2, n))
        rho, step = self.kind.correlation, self.kind.step
        adversarial = self.kind.spread * (rho * clean + math.sqrt(1 - rho**2) * noise) + self.shift
        if step:
            clean, adversarial = np.floor(clean / step), np.floor(adversarial / step)
        return clean, np.where(rng.random(n) < self.infinite, np.inf, adversarial)


def settled(kind: Kind, target: float) -> Scene:
    """The scene whose AUROC is the target, or what rounding makes of it."""
    if math.isnan(kind.infinite):
        return Scene(kind, -8.0, target, target)
    own = (target - kind.infinite) / (1 - kind.infinite)
    shift = float(stats.norm.ppf(own)) * math.hypot(1, kind.spread)
    if not kind.step:
        return Scene(kind, shift, kind.infinite, target)
    edges = kind.step * np.arange(-40, 80)
    clean, attacked = (np.diff(stats.norm.cdf(edges - mean)) for mean in (0.0, shift))
    return Scene(kind, shift, 0.0, float(attacked @ (np.cumsum(clean) - clean / 2)))


def trial(scene: Scene, n: int, rng: np.random.Generator) -> tuple[bool, bool, bool, bool, bool]:
    """Whether ours, Wald's and DeLong's interval hold the truth; whether ours is too high, too low."""
    clean, adversarial = scene.draw(rng, n)
    found = auroc.influence(clean, adversarial)
    low, high = auroc.of_influence(found)
    apart = auroc.influence(clean, adversarial, np.arange(n), np.arange(n, 2 * n))
    far = abs(found.value - scene.true)
    wald, delong = (far <= 1.96 * math.sqrt(one.variance) + 1e-12 for one in (found, apart))
    return low <= scene.true <= high, wald, delong, low > scene.true, high < scene.true


def rows(repeats: int) -> Iterator[list[object]]:
    rng = np.random.default_rng(0)
    for target in TARGETS:
        for n in SIZES:
            count = max(20, min(repeats, repeats * 300 // n))
            shares = np.array(
                [
                    np.mean([trial(scene, n, rng) for _ in range(count)], axis=0)
                    for scene in (settled(kind, target) for kind in KINDS)
                ]
            )
            least = KINDS[int(shares[:, 0].argmin())].name
            yield [target, n, *shares.mean(axis=0), shares[:, 0].min(), least, count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=300, help="for each kind, up to 300 images")
    table = list(rows(parser.parse_args().repeats))
    headers = ["AUROC", "n", "ours", "Wald", "DeLong", "too high", "too low", "least", "of", "repeats"]
    print(f"\n{__doc__}\n")
    print(tabulate(table, headers, "github", floatfmt=("g", "g", *(".3f",) * 6, "", "g")))
    values = np.array([[float(str(value)) for value in row[:3]] for row in table])
    wrong = values[:, 1] * (1 - values[:, 0])
    for name, chosen in (("all", wrong >= 0), ("n(1 - AUROC) >= 10", wrong >= 10 - 1e-9)):
        print(f"mean of {name}: {values[chosen, 2].mean():.3f}, most {values[chosen, 2].max():.3f}")


if __name__ == "__main__":
    main()
