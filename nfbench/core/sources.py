"""Which source a plugin runs from, where that can change under the same version."""

from __future__ import annotations

import importlib
import sys
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from nfbench.core.offers import Offer

_BUNDLED = {"", "_attacks", "_datasets", "_defenses", "_models", "_threats"}
"""What follows `nfbench` in the names of the packages that come with it."""


def source_digest(offer: Offer) -> str:
    """Digest of the source of a plugin that does not come from an installed wheel; else empty.

    Part of the job key, so that editing one's own plugin makes its results anew.
    """
    module = offer.target.partition(":")[0]
    package = module.partition(".")[0]
    if package.startswith("nfbench") and package.removeprefix("nfbench") in _BUNDLED:
        return ""
    path = getattr(sys.modules.get(module) or importlib.import_module(module), "__file__", None)
    if path is None or (offer.distribution not in ("(address)", "(given)") and not _editable(offer)):
        return ""
    root = Path(path).parent
    files = sorted(root.rglob("*.py")) if (root / "__init__.py").exists() else [Path(path)]
    return sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _editable(offer: Offer) -> bool:
    try:
        text = distribution(offer.distribution).read_text("direct_url.json") or ""
    except PackageNotFoundError:
        return False
    return '"editable": true' in text.replace('":true', '": true')
