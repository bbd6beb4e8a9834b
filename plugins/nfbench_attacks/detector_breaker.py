"""detector-breaker: the strongest attacks known on a detector, one after the other."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from nfbench import OBJECTIVES, Attack, Budget, Draws, Images, Labels, Norm, Objective
from nfbench_attacks.apgd import APGD, APGDL2
from nfbench_attacks.climbing import climb, diversified, likeliest, random_start
from nfbench_attacks.fmn import FMN, FMNLinf
from nfbench_attacks.hopskipjump import HopSkipJump, HopSkipJumpLinf
from nfbench_attacks.momentum import transfer
from nfbench_attacks.probing import guide, other_images, random_points
from nfbench_attacks.square import Square, SquareL2


@dataclass(frozen=True)
class _Plan:
    """How much of each stage a budget buys; 0 leaves the stage out."""

    steps: int = 100
    targets: int = 3
    """Wrong classes that `matching` and `dual` aim at, the most likely first."""
    guides: int = 1
    """Guides to match for each of them."""
    starts: int = 1
    """Runs of `selective`: from the image, then from random and from diversified points."""
    orthogonal: int = 0
    confident: int = 0
    """Wrong classes that Auto-PGD makes the classifier sure of."""
    long: int = 0
    """Steps of `dual` towards each of the first three classes, for what is still left."""
    smallest: int = 0
    """Steps of a search for the smallest perturbation."""
    queries: int = 0

    def passes(self, wrong: int) -> int:
        """Forward passes of an image with so many wrong classes that meets every stage, about."""
        targets, confident = min(self.targets, wrong), min(self.confident, wrong)
        climbs = 1 + targets * (1 + 1.5 * self.guides) + self.starts + self.orthogonal
        ends = 2 * self.long * min(3, targets) + 2 * self.smallest + 2 * self.queries
        return round(90 + self.steps * (climbs + confident) + ends)


_PLANS = {
    "quick": _Plan(),
    "standard": _Plan(100, 9, 3, 5, 2, 9, 500, 200, 5000),
    "thorough": _Plan(500, 99, 3, 5, 2, 99, 2500, 1000, 20_000),
}
PROBES = 64
OTHERS = 25


class DetectorBreaker(Attack):
    """The portfolio of nfbench, version 1: no parameters but how long it may take.

    Probes; a climb of the classifier's loss alone; for each wrong class `matching` an accepted image of
    it, then `dual`; `selective`, `orthogonal`; Auto-PGD towards each class, blind to the detector;
    `dual` again with five times the steps; FMN; and queries, for images that nothing has made accepted.
    Images leave once their score is below the clean median, all others meet every stage, and the stage
    that found an image's best point is recorded. A ball as large as the box gets no probes, guides to
    start from or queries: there gradients must do alone. On replicas it is momentum and input
    diversity, up the margin and towards a guide, and where no detector is known a confident static
    attack.
    """

    name = "detector-breaker"
    norm: ClassVar[Norm] = "linf"
    rests = True
    leaves_choice = True
    announces_cost = True

    budget: Literal["quick", "standard", "thorough"] = "standard"

    @property
    def passes(self) -> int:
        return self.passes_among(10)

    def passes_among(self, num_classes: int) -> int:
        return _PLANS[self.budget].passes(num_classes - 1)

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        plan = _PLANS[self.budget]
        if objective.on_replicas:
            return _on_replicas(objective, x, budget, draws, plan)
        if not objective.knows_detector:
            loss = objective.recast(OBJECTIVES["cross-entropy"])
            return climb(loss, x, x, budget, plan.steps, rest=False)
        return _Run(objective, x, budget, draws, plan).all()


def _on_replicas(objective: Objective, x: Images, budget: Budget, draws: Draws, plan: _Plan) -> Images:
    """Momentum and diverse inputs, up the margin and then towards a guide."""
    if not objective.knows_detector:
        return transfer(objective, x, budget, draws, steps=plan.steps, targets=plan.targets)
    x_adv = x
    for kind in ("margin", "matching"):
        goal = objective.recast(OBJECTIVES[kind])
        x_adv = transfer(goal, x, budget, draws, steps=plan.steps, targets=plan.targets, told=kind)
    return x_adv


class DetectorBreakerL2(DetectorBreaker):
    """The same in an L2 ball."""

    name = "detector-breaker-l2"
    norm = "l2"


class _RestingAPGD(APGD):
    """Leaves images alone that are `finished`."""

    rests = True


class _RestingAPGDL2(APGDL2):
    """The same in an L2 ball."""

    rests = True


class _RestingFMN(FMN):
    """As `_RestingAPGD`."""

    rests = True


class _RestingFMNLinf(FMNLinf):
    """The same in an Linf ball."""

    rests = True


@dataclass(frozen=True)
class _Run:
    objective: Objective
    x: Images
    budget: Budget
    draws: Draws
    plan: _Plan

    @property
    def boundless(self) -> bool:
        """Whether the ball holds every image, so that any accepted one would do."""
        diameter = 1.0 if self.budget.norm == "linf" else math.sqrt(self.x[0].numel())
        return self.budget.eps >= diameter

    def all(self) -> Images:
        """Every stage in turn; what it returns matters only where no point ever counted."""
        if not self.boundless:
            self.objective.stage("probes")
            random_points(self.objective, self.x, self.budget, self.draws, PROBES)
            other_images(self.objective, self.x, self.budget, OTHERS)
        confident = self._climb("cross-entropy", self.x)
        self._targeted(confident)
        for k in range(self.plan.starts):
            self._climb("selective", self._start(k))
        for k in range(self.plan.orthogonal):
            self._climb("orthogonal", self._start(k))
        self._confident_targets()
        self._long(confident)
        self._smallest()
        self._queries()
        return confident

    def _climb(  # what, from where, and the rest by name
        self,
        kind: str,
        start: Images,
        target: Labels | None = None,
        *,
        rank: int = 0,
        steps: int = 0,
    ) -> Images:
        """One run, towards `target` if given; `steps` if it is to be longer than others."""
        targeted, long = ", targeted" * (target is not None), ", long" * bool(steps)
        self.objective.stage(kind + targeted + long)
        objective = self.objective.recast(OBJECTIVES[kind])
        if target is not None:
            objective = objective.towards(target)
        objective = list(objective.variants())[rank] if rank else objective
        return climb(objective, self.x, start, self.budget, steps or self.plan.steps)

    def _start(self, k: int) -> Images:
        """The image, then two random points, then diversified ones."""
        if k == 0:
            return self.x
        start = random_start(self.x, self.budget, self.draws)
        return start if k < 3 else diversified(self.objective, self.x, start, self.budget, self.draws)

    def _targeted(self, confident: Images) -> None:
        """Match an accepted image of each class, hide from there; and hide from elsewhere, too."""
        for k, target in enumerate(likeliest(self.objective, self.x, self.plan.targets)):
            for rank in range(self.plan.guides):
                like = guide(self.objective, self.x, rank, target)
                if like is None:
                    break
                start = self.x if self.boundless else like
                reached = self._climb("matching", start, target, rank=rank)
                self._climb("dual", reached, target)
            self._climb("dual", self.x if k % 2 else confident, target)

    def _confident_targets(self) -> None:
        if self.plan.confident:
            self.objective.stage("cross-entropy, targeted")
            loss = self.objective.recast(OBJECTIVES["cross-entropy"])
            kind = _RestingAPGD if self.budget.norm == "linf" else _RestingAPGDL2
            attack = kind(steps=self.plan.steps, starts="image")
            for target in likeliest(self.objective, self.x, self.plan.confident):
                attack.perturb(loss.towards(target), self.x, self.budget, self.draws)

    def _long(self, confident: Images) -> None:
        if self.plan.long:
            for target in likeliest(self.objective, self.x, 3):
                for start in (confident, random_start(self.x, self.budget, self.draws)):
                    self._climb("dual", start, target, steps=self.plan.long)

    def _smallest(self) -> None:
        if self.plan.smallest and not self.boundless:  # it begins at guides, too
            kind = _RestingFMNLinf if self.budget.norm == "linf" else _RestingFMN
            self.objective.stage(kind.name)
            margin = self.objective.recast(OBJECTIVES["margin"])
            free = Budget(self.budget.norm, math.inf)  # to come into the ball from outside helps
            kind(steps=self.plan.smallest).perturb(margin, self.x, free, self.draws)

    def _queries(self) -> None:
        if not self.plan.queries or self.boundless:
            return
        self.objective.dismiss(self.objective.evaded)
        margin, most = self.objective.recast(OBJECTIVES["margin"]), self.plan.queries
        linf = self.budget.norm == "linf"
        for attack in (Square if linf else SquareL2, HopSkipJumpLinf if linf else HopSkipJump):
            self.objective.stage(attack.name)
            attack(queries=most).perturb(margin, self.x, self.budget, self.draws)
