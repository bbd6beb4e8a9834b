"""What `check_defense` demands of what a defense says of its gradient."""

import pytest
from planted import Good, GoodDetector

from nfbench.testing import check_defense


def defense(name, declared, *, differentiable=False, surrogate=None):
    """A defense that declares a gradient, and a detector that has the one described."""

    class Planted(GoodDetector):
        def score(self, x):
            found = super().score(x)
            return found if differentiable else found.detach()

        def surrogate(self, x):
            return None if surrogate is None else surrogate(super().score(x))

    Planted.differentiable = differentiable
    made = type("Planted", (Good,), {"name": name, "__doc__": "Planted.", "gradient": declared})
    made.detector = lambda self, classifier, state: Planted(classifier, state["mean"])
    return made()


def test_what_is_declared_truly_passes():
    check_defense(defense("good-exact", "exact", differentiable=True))
    check_defense(defense("good-none", "none"))
    check_defense(defense("good-surrogate", "surrogate", surrogate=lambda s: 2 * s))


@pytest.mark.parametrize(
    ("declared", "has", "given"),
    [
        ("exact", "none", {}),
        ("surrogate", "none", {}),
        ("exact", "surrogate", {"surrogate": lambda s: s}),
        ("none", "surrogate", {"surrogate": lambda s: s}),
        ("none", "exact", {"differentiable": True}),
    ],
)
def test_what_is_declared_wrongly_is_refused(refused, declared, has, given):
    refused(
        check_defense, defense("wrong", declared, **given), f"'{declared}' and its detector has '{has}'"
    )


@pytest.mark.parametrize(
    ("formula", "cause"),
    [
        (lambda s: s[:, None], "one number an image"),
        (lambda s: s.detach(), "cut off from the image"),
        (lambda s: 0 * s, "nothing to follow"),
    ],
)
def test_a_surrogate_that_cannot_be_followed_is_refused(refused, formula, cause):
    refused(check_defense, defense("bad", "surrogate", surrogate=formula), cause)
