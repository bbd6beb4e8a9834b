"""Trust in results: packing them with what proves them, checking them, and breaking rows.

Names are imported on first use: what a board reads (`read_verification`, `apply_breaks`) needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nfbench.trust.breaking import break_row
    from nfbench.trust.breaks import Break, read_breaks
    from nfbench.trust.lowering import apply_breaks
    from nfbench.trust.means import Means
    from nfbench.trust.submitting import Packed, submit
    from nfbench.trust.verification import Verification, read_verification
    from nfbench.trust.verifying import Rerun, verify

__all__ = [
    "Break",
    "Means",
    "Packed",
    "Rerun",
    "Verification",
    "apply_breaks",
    "break_row",
    "read_breaks",
    "read_verification",
    "submit",
    "verify",
]
_HOME = {
    "Break": "breaks",
    "Means": "means",
    "Packed": "submitting",
    "Rerun": "verifying",
    "Verification": "verification",
    "apply_breaks": "lowering",
    "break_row": "breaking",
    "read_breaks": "breaks",
    "read_verification": "verification",
    "submit": "submitting",
    "verify": "verifying",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nfbench.trust' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nfbench.trust.{_HOME[name]}"), name)
