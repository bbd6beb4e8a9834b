"""The objectives there are, by name: what an attack may be told to climb."""

from nfbench.core.gradients import Dual, Orthogonal
from nfbench.core.losses import (
    CrossEntropy,
    Lagrangian,
    Margin,
    PaperLagrangian,
    ReleasedLagrangian,
    Selective,
)
from nfbench.core.matching import Matching
from nfbench.core.objective import Objective

OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind
    for kind in (
        CrossEntropy,
        Margin,
        Selective,
        Orthogonal,
        Dual,
        Matching,
        Lagrangian,
        PaperLagrangian,
        ReleasedLagrangian,
    )
}
