"""An experiment as a configuration file of `nfbench run`, such as the attack settings of Table 12."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nfbench.reproduce.scaling import Settled

_PLAIN = re.compile(r"^[\w-]+$")


def configuration(settled: Settled) -> str:
    """TOML that `nfbench run --config` takes; what varies is a comment with the flags of a sweep."""
    entries = {
        k: v for k, v in settled.entries.items() if k not in ("set", "vary", "random-number", "note")
    }
    lines = [f"# {settled.name} of {settled.paper}, scale {settled.scale}"]
    lines += [f"# nfbench sweep --config FILE --vary {line}" for line in settled.vary]
    lines += [f"{key} = {_value(value)}" for key, value in entries.items() if value != ""]
    for plugin, values in settled.entries.get("set", {}).items():
        lines += ["", f"[set.{_key(plugin)}]", *(f"{_key(k)} = {_value(v)}" for k, v in values.items())]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if _PLAIN.match(name) else json.dumps(name)


def _value(value: Any) -> str:
    """A value as TOML writes it, which for these is as JSON does."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
