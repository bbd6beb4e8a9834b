"""Systems that differ only in what a threat model withholds, and an attack that tries everything."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import nn

from nfbench.core.attack import Attack
from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Observation
from nfbench.core.draws import Draws
from nfbench.core.ensemble import replica_victim
from nfbench.core.errors import NFBenchError
from nfbench.core.objective import Objective
from nfbench.core.objectives import OBJECTIVES
from nfbench.core.threat import ThreatModel
from nfbench.core.values import Access, Budget, Images, Norm, Split
from nfbench.core.victim import Alarm, Victim
from nfbench.runner.attacking import Attempt, craft
from nfbench.runner.guides import guides
from nfbench.runner.measuring import predict, scores

CLASSES, COUNT = 3, 8
EPS = 0.3


class Net(nn.Module):
    """A small network; `scale` and `slope` change its numbers or its gradient, never its decisions."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, CLASSES))
        self.scale, self.slope = 1.0, 1.0

    def forward(self, x: Images) -> torch.Tensor:
        return sloped(self.scale * self.layers(x), self.slope)


class Secret(Detector):
    """Distances of the image to secret centres, one a class."""

    def __init__(self, classifier: Classifier, seed: int) -> None:
        super().__init__(classifier)
        torch.manual_seed(seed)
        self.centres = nn.Parameter(torch.rand(CLASSES, 16))
        self.slope, self.turned_at = 1.0, torch.inf

    def score(self, x: Images) -> torch.Tensor:
        seen = self.observe(x).score
        assert seen is not None
        return seen

    def observe(self, x: Images) -> Observation:
        gaps = x.flatten(1)[:, None] - self.centres
        penalties = sloped((gaps.square().sum(2) + 1e-9).sqrt(), self.slope)
        if self.turned_at < torch.inf:  # other numbers, equal decisions
            penalties = torch.where(penalties > self.turned_at, 4 * penalties, -penalties)
        return Observation(self.classifier(x), penalties.amin(1), penalties, penalties**2)

    def features(self, x: Images) -> torch.Tensor:
        return x.flatten(1) @ self.centres.T


def sloped(values: torch.Tensor, slope: float) -> torch.Tensor:
    """The same numbers with `slope` times their gradient."""
    return values if slope == 1 else values.detach() + slope * (values - values.detach())


@dataclass(frozen=True, eq=False)
class System:
    """A defended classifier, and the replicas that an attacker would make of it."""

    victim: Victim
    replicas: tuple[Victim, ...]

    @classmethod
    def made(cls, classifier_seed: int = 1, secret: int = 1) -> "System":
        return cls(defended(classifier_seed, secret), tuple(defended(50 + k, 60 + k) for k in range(3)))

    def known_to(self, threat: ThreatModel) -> Victim:
        """What the attacker is given, as a craft job gives it."""
        if not threat.transfers:
            return self.victim if threat.adaptive else Victim(self.victim.classifier)
        if threat.detector == "none":
            return replica_victim(None, [Victim(r.classifier) for r in self.replicas], detectors=False)
        return replica_victim(self.victim.classifier, self.replicas, detectors=True)

    def changed(self, threat: ThreatModel) -> "System | None":
        """A system that differs in all that the threat model withholds; None if it withholds nothing."""
        if threat.transfers:
            other = 2 if threat.classifier != "victim" else 1
            return replace(self, victim=defended(other, secret=2))
        if not threat.adaptive:
            return replace(self, victim=defended(1, secret=2))
        if threat.access is Access.GRADIENT:
            return None
        victim = defended(1, 1)
        if threat.access is Access.SCORES:
            victim.classifier.network.slope, victim.detector.slope = 3.0, -2.0
            return replace(self, victim=victim)
        tau = victim.alarm.threshold
        victim.classifier.network.scale, victim.detector.turned_at = 2.0, tau
        return replace(self, victim=replace(victim, alarm=Alarm(tau, victim.alarm.median - 7, 3.0)))


def defended(classifier_seed: int, secret: int) -> Victim:
    classifier = Classifier(Net(classifier_seed), CLASSES).eval()
    detector = Secret(classifier, secret).eval()
    return Victim(classifier, detector, Alarm.calibrated(scores(detector, images(200, 5))))


def images(count: int, seed: int) -> Images:
    return torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def split(count: int = COUNT, seed: int = 6) -> Split:
    """Images with the labels that classifier 1 gives them."""
    x = images(count, seed)
    return Split(x, predict(Classifier(Net(1), CLASSES).eval(), x), torch.arange(count))


class Spy(Attack):
    """Runs a plot with the objective it is handed, and returns the images as they were."""

    name = "spy"
    norm: ClassVar[Norm] = "linf"
    needs = Access.DECISION
    plot: Any
    """Called with the objective and the images."""

    def perturb(self, objective: Objective, x: Images, budget: Budget, draws: Draws) -> Images:
        untouched = x.clone()
        self.plot(objective, x)
        return untouched


def infiltrate(
    threat: ThreatModel,
    system: System,
    plot: Callable[[Objective, Images], object],
    around: Split | None = None,
) -> dict[str, torch.Tensor]:
    """Let `plot` loose where the runner would let an attack; what the runner makes of it."""
    spy, known = Spy(plot=plot), system.known_to(threat)
    train = split(60, seed=7)
    around = guides(known, train, 0, threat.access) if around is None else around
    handed = known if threat.transfers else system.victim  # who hides the detector is the runner
    found = {}
    for name in threat.objectives(spy):
        attempt = Attempt(spy, threat, name, Budget("linf", EPS), 0)
        found = craft(attempt, handed, split(), guides=around).vectors
    return found


def forms(objective: Objective) -> Iterator[Objective]:
    """Everything an objective can be turned into."""
    yield objective
    for kind in OBJECTIVES.values():
        cast = objective.recast(kind)
        yield cast
        yield cast.towards((objective.labels + 1) % CLASSES)
        yield from islice(cast.variants(), 2)


QUESTIONS: tuple[Callable[[Objective, Images], Any], ...] = (
    lambda o, x: o.query(x),
    lambda o, x: o.query(x, record=False),
    lambda o, x: o.query(x, features=True),
    lambda o, x: o.query(x[:2], torch.tensor([3, 1])),
    lambda o, x: o.begin().loss(x),
    lambda o, x: o.margin(x),
    lambda o, x: o.runner_up(x),
    lambda o, x: tuple(o.begin().step(x)),
    lambda o, x: o.begin().gradient(x),
    lambda o, x: o.finished.clone(),
    lambda o, x: (o.access, o.norm, o.num_classes, o.weight, o.knows_detector),
    lambda o, x: None if o.guides is None else (o.guides.x, o.guides.y, o.guides.index),
)


def told(question: Callable[[Objective, Images], Any], objective: Objective, x: Images) -> Any:
    """What the attacker learns by a question: the answer, or why there is none."""
    try:
        return question(objective, x)
    except (NFBenchError, RuntimeError, AssertionError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
