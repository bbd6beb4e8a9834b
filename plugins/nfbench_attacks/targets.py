"""Which wrong class a targeted attack aims at."""

from typing import Literal, TypeAlias

from nfbench import Draws, Images, Objective

Target: TypeAlias = Literal["auto", "random", "runner-up", "untargeted"]


def aim(objective: Objective, x: Images, draws: Draws, target: Target) -> Objective:
    """The objective towards the chosen class of each image.

    `auto` is a random class where the detector is unknown, as in the reference code of the papers,
    and the most likely wrong class where it is known.
    """
    if target == "auto":
        target = "runner-up" if objective.knows_detector else "random"
    if target == "untargeted":
        return objective
    if target == "runner-up":
        return objective.towards(objective.runner_up(x))
    others = draws.integers("target", objective.num_classes - 1).to(objective.labels)
    return objective.towards(others + (others >= objective.labels))
