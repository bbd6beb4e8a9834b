"""What a check is, how a list of them is run, and the clauses that every recipe is bound by."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from nfbench.core.errors import DataMissing
from nfbench.core.recipe import Recipe

S = TypeVar("S")
NAME = re.compile(r"[a-z0-9]+([-.+][a-z0-9]+)*")


@dataclass(frozen=True)
class Check:
    """One clause of a contract."""

    title: str
    test: Callable[[], None]
    subject: str
    """Name of the plugin."""
    vital: bool = False
    """Whether the clauses after it make no sense where it fails."""

    def run(self) -> None:
        """Do nothing where the clause is kept.

        Raises:
            AssertionError: saying what is wrong and what to do; also for whatever the plugin raises.
            DataMissing: if a dataset's files are not there, which breaks no contract.
        """
        try:
            with torch.random.fork_rng(devices=[]):
                self.test()
        except DataMissing:
            raise
        except AssertionError as error:
            message = str(error) or f"an assertion failed while checking that {self.title}"
            raise AssertionError(f"{self.subject}: {message}") from error.__cause__ or error
        except Exception as error:  # a plugin may raise anything
            cause = " ".join(str(error).split())
            raise AssertionError(
                f"{self.subject}: raised {type(error).__name__} while checking that {self.title}: "
                f"{cause}"
            ) from error


def run_all(found: Iterable[Check]) -> None:
    """Run checks in order; the first that fails raises."""
    for check in found:
        check.run()


def expect(condition: object, message: str) -> None:
    """An assertion that `python -O` keeps."""
    if not condition:
        raise AssertionError(message)


def clauses(
    subject: Recipe, trial: S, tests: Sequence[Callable[[S], None]], *, vital: Sequence[object] = ()
) -> list[Check]:
    """The clauses of a recipe, then those of its kind; each is titled by its docstring."""
    common = [
        Check(_title(test), partial(test, subject), _name(subject)) for test in (_is_named, _is_plain)
    ]
    return common + [
        Check(_title(test), partial(test, trial), _name(subject), test in vital) for test in tests
    ]


def same(a: Tensor, b: Tensor, *, rtol: float = 1e-4) -> Tensor:
    """Which rows agree up to rounding, judged by the spread of `a`. (B, ...) x2 -> (B,)"""
    unit = float(a.detach().std()) if a.numel() > 1 else 0.0
    slack = rtol * (unit + a.detach().abs()) + 1e-6
    close: Tensor = ((a - b).abs() <= slack).flatten(1).all(1) if a.dim() > 1 else (a - b).abs() <= slack
    return close


def tensors_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two states have the same names and bits."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def is_a(value: object, *types: type) -> bool:
    """`isinstance`, where the annotations promise what a plugin may not keep."""
    return isinstance(value, types)


def kind(value: object) -> str:
    """What a value is, for a message."""
    return type(value).__name__


def _is_named(recipe: Recipe) -> None:
    """It has a name and says what it is"""
    name = getattr(recipe, "name", None)
    expect(
        isinstance(name, str) and NAME.fullmatch(name),
        f"name = {name!r}: use lower-case letters, digits and hyphens, such as 'my-plugin'",
    )
    own = type(recipe).__doc__ or ""
    expect(own.strip(), "the class has no docstring: say in a line what it is; `nfbench list` shows it")
    paper = recipe.paper
    expect(
        not paper or paper.startswith("http"),
        f"paper = {paper!r}: give the URL of the paper, or nothing",
    )


def _is_plain(recipe: Recipe) -> None:
    """Its hyperparameters are plain data that rebuild it"""
    try:
        plain = json.loads(json.dumps(recipe.model_dump(mode="json"), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"its hyperparameters are no plain data for a job key: {error}") from error
    again = type(recipe).from_params(plain)
    expect(
        again == recipe,
        f"its hyperparameters change when written and read again: {again} is not {recipe}",
    )
    expect(
        type(recipe).model_config.get("frozen") and type(recipe).model_config.get("extra") == "forbid",
        "its model_config must stay frozen and forbid unknown hyperparameters; do not override it",
    )


def _title(test: Callable[..., None]) -> str:
    words = (test.__doc__ or "").strip()
    return words[:1].lower() + words[1:]


def _name(recipe: Recipe) -> str:
    return str(getattr(recipe, "name", type(recipe).__name__))
