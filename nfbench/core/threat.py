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
    classifier: ClassVar[Literal["victim", "undefended-replica"]] = "victim"
    """Which classifier the attacker has; replicas are trained by others, without the defense."""
    detector: ClassVar[Literal["none", "victim", "other-secret"]] = "none"
    """Which detector the attacker has. "none" lets one attack serve every detector; "other-secret"
    means replicas of the defense, made as the victim's was but with other secrets and other data."""
    access: ClassVar[Access] = Access.GRADIENT
    keeps_best: ClassVar[bool] = True
    """Whether who knows the detector submits the best point found, not what the attack returns."""

    @property
    def adaptive(self) -> bool:
        """Whether the attacker knows of the detector."""
        return self.detector != "none"

    @property
    def transfers(self) -> bool:
        """Whether the attack is made on replicas; its result then meets the victim once, at the end."""
        return self.classifier != "victim" or self.detector == "other-secret"

    @property
    def asks_victim(self) -> bool:
        """Whether the attacker can ask the victim's own detector."""
        return self.adaptive and not self.transfers

    @property
    def chooses(self) -> bool:
        """Whether he can tell which of several results is the best before he submits it."""
        return self.asks_victim and self.keeps_best

    @property
    def query_limit(self) -> int | None:
        """Queries granted for each image; None: without limit."""
        return None

    @property
    def replica_count(self) -> int:
        """How many replicas the attacker makes; 0 where he has the victim itself."""
        return 0

    def follows_gradient(self, attack: Attack) -> bool:
        """Whether `attack` follows the gradient of the victim's own detector here."""
        return self.asks_victim and self.access is Access.GRADIENT is attack.needs

    def aims_at_threshold(self, attack: Attack) -> bool:
        """Whether `attack` stops here as soon as the detector accepts, instead of going on below."""
        return self.asks_victim and (attack.minimises or self.access is Access.DECISION)

    def mismatch(self, attack: Attack) -> str:
        """Why `attack` can't be run under this threat model; empty if it can."""
        if attack.needs > self.access:
            return f"needs {attack.needs.name.lower()} access, granted {self.access.name.lower()}"
        if attack.leaves_choice and self.adaptive and not self.keeps_best:
            return f"returns no best point of its own, and {self.name} scores what an attack returns"
        return ""

    @abstractmethod
    def objectives(self, attack: Attack) -> tuple[str, ...]:
        """Names of the objectives to run `attack` with, one job each."""

    @abstractmethod
    def objective(self, name: str, recorder: Recorder, labels: Labels, alarm: Alarm | None) -> Objective:
        """The objective called `name` for a batch of images with these `labels`."""
