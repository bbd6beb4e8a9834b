"""Sweeps whose numbers are made up."""

from itertools import product

from nfbench.records import Value
from nfbench.report.entries import Entry
from nfbench.sweeping.rows import Column, Result, Row, Swept
from nfbench.sweeping.unrolling import Axis

BALL = "linf ≤ 0.25"


def value(number, reach=0.0625):
    return Value(value=number, low=max(0.0, number - reach), high=min(1.0, number + reach))


def swept(axes, columns, entry_of, defenses=("neuralfp",), **changes):
    """A sweep over `{label: values}`, with an entry made of each point's values, defense and column."""
    named = [Axis(label, f"plugin.{label}") for label in axes]
    results = []
    for values in product(*axes.values()):
        rows = [
            Row(name, value(0.875), value(0.0625), {c: entry_of(values, name, c) for c in columns})
            for name in defenses
        ]
        folder = "--".join(f"{k}={v}" for k, v in zip(axes, values, strict=True))
        by_name = {axis.name: one for axis, one in zip(named, values, strict=True)}
        results.append(Result(by_name, folder, rows, (), frozenset({"done"}), "digest"))
    return Swept(
        named, "auroc_worst", results, "digits", "Model `m`; seed 0.", "nfbench sweep", **changes
    )


def column(attack="pgd", threat="adaptive-whitebox", ball=BALL):
    return Column(threat, attack, ball)


def entry(auroc=0.5, sr5=0.25, *, bound=False, **other):
    found = value(auroc).model_copy(update={"flag": "upper bound: stops" if bound else ""})
    return Entry.of(found, value(sr5), **other)
