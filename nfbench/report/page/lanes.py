"""Which attack was worst for each image: a lane an attack, a tick an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from nfbench.report.board import number
from nfbench.report.cells import budget
from nfbench.report.page.boards import header, scrolling
from nfbench.report.page.columns import ball_named
from nfbench.report.page.markup import Html, el
from nfbench.report.page.numbers import full
from nfbench.report.page.places import Faced, Place
from nfbench.report.run import Run

_WIDE, _HIGH = 300, 12
SHOWN = 3
"""Winners that are named."""


def lanes(where: Sequence[Place], order: Mapping[str, int]) -> list[Html]:
    """For each place where the attacker chooses among several attacks, and each defense.

    Args:
        where: the places.
        order: the number of each attack, which fixes its colour all over the page.
    """
    found = []
    for place in where:
        images = _images(place)
        for name, seeds in place.faced.items() if place.chosen else ():
            if len(seeds[0].attacks) > 1:
                found.append(_lanes(place, name, images, order))
    return found


def _images(place: Place) -> Mapping[int, int]:
    """Where each image attacked under any defense lies, so that strips are read one below another."""
    first = [seeds[0] for seeds in place.faced.values()]
    return {image: i for i, image in enumerate(sorted({int(i) for f in first for i in f.index}))}


def _lanes(place: Place, name: str, images: Mapping[int, int], order: Mapping[str, int]) -> Html:
    seeds = place.faced[name]
    won, total = Counter[str](), sum(int((s.winner >= 0).sum()) for s in seeds)
    for seed in seeds:
        won.update(seed.attacks[i] for i in seed.winner.tolist() if i >= 0)
    rows = []
    for attack in dict.fromkeys(a for s in seeds for a in s.attacks):
        share = won[attack] / total if total else None
        strip = _strip(seeds[0], attack, images, order[attack])
        cells = el("td", number(share), data_value=full(share)), el("td", strip, class_="strip")
        rows.append(el("tr", el("th", attack, scope="row"), *cells, data_attack=attack))
    never = 1 - total / sum(len(s.winner) for s in seeds)
    caption = el("caption", el("b", name), f" never misclassified: {never:.1%}")
    head = el("thead", el("tr", header("attack"), header("share won"), header("images, in order")))
    table = el("table", caption, head, el("tbody", *rows), class_="lanes")
    attributes = {"data_defense": name, "data_threat": place.threat, "data_budget": place.ball}
    return el("div", scrolling(table, f"Worst attack, {name}"), class_="panel", **attributes)


def _strip(faced: Faced, attack: str, images: Mapping[int, int], number_: int) -> Html:
    """Full ticks where the image is accepted too, half ones where it is only misclassified."""
    steps: dict[bool, str] = {True: "", False: ""}
    pairs = zip(faced.index.tolist(), faced.winner.tolist(), faced.evasion.tolist(), strict=True)
    for image, winner, score in sorted(pairs):
        if winner >= 0 and faced.attacks[winner] == attack:
            accepted = score <= faced.threshold
            steps[accepted] += f"M{images[image]} {_HIGH}v-{_HIGH if accepted else _HIGH // 2}"
    ticks = [el("path", d=d, class_=None if accepted else "faint") for accepted, d in steps.items() if d]
    box = f"-.5 0 {max(len(images), 1)} {_HIGH}"
    return el(
        "svg", *ticks, viewBox=box, width=_WIDE, height=_HIGH, preserveAspectRatio="none",
        class_=f"c{number_ % 8}", aria_hidden="true",
    )  # fmt: skip


def stages(run: Run) -> Html | None:
    """Which objective or stage found the best points, of attackers who know of the detector."""
    won: dict[tuple[str, ...], Counter[str]] = {}
    for cell in run.cells:
        if cell.adaptive and cell.winners:
            key = (cell.row, cell.attack.name, cell.threat_model.name, ball_named(budget(cell)))
            won.setdefault(key, Counter()).update(cell.winners)
    if not won:
        return None
    rows = [_stage(key, counts) for key, counts in won.items()]
    names = ("defense", "attack", "threat model", "budget")
    heads = [header(name, data_sort="text") for name in names]
    head = el("thead", el("tr", *heads, header(f"found by, first {SHOWN}")))
    caption = el("caption", "Objectives and stages that found the best points, all seeds together")
    table = el("table", caption, head, el("tbody", *rows), class_="sortable")
    return el("details", el("summary", "Which objectives and stages won"), scrolling(table, "What won"))


def _stage(key: tuple[str, ...], counts: Counter[str]) -> Html:
    shares = ", ".join(f"{name} {n / counts.total():.0%}" for name, n in counts.most_common(SHOWN))
    row, attack, threat, ball = key
    cells = [el("td", text) for text in (attack, threat, ball, shares)]
    named = {"data_defense": row, "data_attack": attack, "data_threat": threat, "data_budget": ball}
    return el("tr", el("th", row, scope="row"), *cells, **named)
