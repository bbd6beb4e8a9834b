"""Replicas: what an attacker builds who does not have the victim, or not its secret."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nfbench.core.classifier import Classifier
from nfbench.core.defense import Detector, Observation
from nfbench.core.values import Images, Scores
from nfbench.core.victim import Alarm, Victim


class _MeanLogProbability(nn.Module):
    """Classifiers as one: the mean of their log-probabilities, so that none shouts the others down."""

    def __init__(self, members: Sequence[Classifier]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Images) -> Tensor:
        votes = torch.stack([member(x).log_softmax(1) for member in self.members])
        return votes.mean(0)


def committee(members: Sequence[Classifier]) -> Classifier:
    """Several classifiers of the same classes as one, in eval mode."""
    return Classifier(_MeanLogProbability(members), members[0].num_classes).eval()


class ReplicaDetectors(Detector):
    """The expectation of several detectors' suspicion, each in units of its own clean scores.

    Expectation over the secrets that the victim might have, after Athalye et al. (2018),
    arXiv:1802.00420; the classes are those of `classifier`.
    """

    def __init__(self, classifier: Classifier, victims: Sequence[Victim]) -> None:
        super().__init__(classifier)
        assert all(victim.detector is not None and victim.alarm is not None for victim in victims)
        self.members = nn.ModuleList([v.detector for v in victims if v.detector is not None])
        self.alarms = [v.alarm for v in victims if v.alarm is not None]
        self.rows_per_image = 1 + sum(victim.rows_per_image for victim in victims)

    @property
    def stochastic(self) -> bool:  # type: ignore[override]  # of its members, not of its class
        return any(member.stochastic for member in self._detectors)

    @property
    def alarm(self) -> Alarm:
        """Where the mean suspicion stands: 0 is the mean threshold."""
        medians = [(a.median - a.threshold) / a.unit for a in self.alarms]
        return Alarm(0.0, sum(medians) / len(medians), 1.0)

    @property
    def _detectors(self) -> list[Detector]:
        return [member for member in self.members if isinstance(member, Detector)]

    def score(self, x: Images) -> Scores:
        score = self.observe(x).score
        assert score is not None
        return score

    def observe(self, x: Images) -> Observation:
        return self._mean(x, [self._drawn(member).observe(x) for member in self._detectors])

    def inspect(self, x: Images) -> Observation:
        seen = [self._drawn(member).inspect(x) for member in self._detectors]
        features = [one.features for one in seen if one.features is not None]
        return self._mean(x, seen)._replace(features=torch.cat(features, 1))

    def _drawn(self, member: Detector) -> Detector:
        member.draw = self.draw
        return member

    def _mean(self, x: Images, seen: Sequence[Observation]) -> Observation:
        logits, scores, penalties = self.classifier(x), [], []
        for one, alarm in zip(seen, self.alarms, strict=True):
            assert one.score is not None
            each = one.score[:, None].expand_as(logits) if one.penalties is None else one.penalties
            scores.append((one.score - alarm.threshold) / alarm.unit)
            penalties.append((each - alarm.threshold) / alarm.unit)
        return Observation(logits, torch.stack(scores).mean(0), torch.stack(penalties).mean(0))


def replica_victim(
    classifier: Classifier | None, members: Sequence[Victim], *, detectors: bool
) -> Victim:
    """What an attacker has instead of the victim.

    Args:
        classifier: the victim's, where he knows it; else the members' together.
        members: the replicas.
        detectors: whether the replicas are defended.
    """
    known = committee([member.classifier for member in members]) if classifier is None else classifier
    if not detectors:
        return Victim(known)
    ensemble = ReplicaDetectors(known, members).eval()
    return Victim(known, ensemble, ensemble.alarm)
