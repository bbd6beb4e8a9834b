"""The Attack interface."""

from abc import ABC, abstractmethod
from typing import ClassVar

from nfbench.core.draws import Draws
from nfbench.core.objective import Objective
from nfbench.core.recipe import Recipe
from nfbench.core.values import Access, Budget, Images, Norm


class Attack(Recipe, ABC):
    """A way of perturbing images so that an objective is reached."""

    norm: ClassVar[Norm]
    """The norm its perturbations are small in; decides which budget it gets."""
    minimises: ClassVar[bool] = False
    """Whether it looks for the smallest perturbation; it is then unbounded unless told otherwise."""
    needs: ClassVar[Access] = Access.GRADIENT
    """The least access it can work with."""
    static_objective: ClassVar[str] = "cross-entropy"
    """What it climbs where no detector is revealed."""
    adaptive_objectives: ClassVar[tuple[str, ...]] = ("margin",)
    """What it climbs, one after the other, where the detector is known; each image keeps its best."""

    rests: ClassVar[bool] = False
    """Whether images leave once they are `finished`; AUROC of the adaptive cells is then a bound."""

    leaves_choice: ClassVar[bool] = False
    """Whether it returns its last point and leaves it to the recorder to keep each image's best."""

    announces_cost: ClassVar[bool] = False
    """Whether the time that a run will take is measured and told before it starts."""

    @property
    def passes(self) -> int:
        """Roughly how many forward passes an image costs; only the time left is computed from it."""
        return 50

    def passes_among(self, num_classes: int) -> int:
        """The same, for attacks that aim at several classes and here meet so many."""
        return self.passes

    @abstractmethod
    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        """Perturbed images, same shape as `x`, in [0, 1] and within `budget`.

        Randomness comes from `draws`, so that an image's result does not depend on its neighbours.
        Where the attack fails it returns its best attempt or `x` itself, never a placeholder.
        """
