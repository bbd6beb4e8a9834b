"""Guides: clean training images that an attacker sees accepted, to start from or to imitate."""

from __future__ import annotations

import torch

from nfbench.core.draws import seed_of
from nfbench.core.values import Access, Split
from nfbench.core.victim import Victim

PER_CLASS = 40
"""Images of each class that are looked at."""


@torch.no_grad()
def guides(victim: Victim, train: Split, seed: int, access: Access = Access.GRADIENT) -> Split:
    """Training images that the revealed classifier gets right and the revealed detector likes.

    Those with at most the median clean score where scores are revealed, those that are accepted where
    only decisions are. (G <= 40 a class)
    """
    generator = torch.Generator().manual_seed(seed_of("guides", seed))
    order = torch.randperm(len(train), generator=generator).to(train.y.device)
    labels = train.y[order]
    chosen = [order[labels == k][:PER_CLASS] for k in labels.unique().tolist()]
    looked_at = train.take(torch.cat(chosen))
    if victim.detector is not None:
        victim.detector.draw = 0
    size = victim.images_within(2**27, looked_at.x)
    seen = [victim.observe(part) for part in looked_at.x.split(size)]
    good = torch.cat([one.logits.argmax(1) for one in seen]) == looked_at.y
    if victim.alarm is not None:
        scores = torch.cat([one.score for one in seen if one.score is not None])
        alarm = victim.alarm
        good &= scores <= (alarm.median if access > Access.DECISION else alarm.threshold)
    return looked_at.take(good)
