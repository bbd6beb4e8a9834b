"""The ThreatModel interface: goal, knowledge and capability of the attacker, as what it is handed."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from nfbench.core.attack import Attack
from nfbench.core.objective import Objective
from nfbench.core.recipe import Recipe
from nfbench.core.recorder import Recorder
from nfbench.core.values import Access, Labels
from nfbench.core.victim import Alarm


class ThreatModel(Recipe, ABC):
    """What an attacker knows and may do, after Carlini et al. (2019), arXiv:1902.06705.

    The class variables are read by the planner, which hands over exactly that and nothing else: an
    attack under `detector = "none"` runs in a job that does not have the detector.
    """

    knowledge: ClassVar[str]
    """What the attacker knows, in a few words; reports take worst cases within one threat model."""
    detector: ClassVar[Literal["none", "victim"]] = "none"
    """Which detector the attacker has. "none" lets one attack serve every detector."""
    access: ClassVar[Access] = Access.GRADIENT

    @property
    def adaptive(self) -> bool:
        """Whether the attacker knows of the detector; the best recorded point is then its result."""
        return self.detector != "none"

    def mismatch(self, attack: Attack) -> str:
        """Why `attack` can't be run under this threat model; empty if it can."""
        if attack.needs > self.access:
            return f"needs {attack.needs.name.lower()} access, granted {self.access.name.lower()}"
        return ""

    @abstractmethod
    def objectives(self, attack: Attack) -> tuple[str, ...]:
        """Names of the objectives to run `attack` with, one job each."""

    @abstractmethod
    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        """The objective called `name` for a batch of images with these `labels`."""
