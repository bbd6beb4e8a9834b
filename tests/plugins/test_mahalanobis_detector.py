import pytest
import torch
from mahalanobis_bench import RUNS, classifier, fitted, images, independent, stepped


def test_each_layer_is_measured_after_its_own_step_towards_the_nearest_class():
    victim, x = classifier(), images(8, seed=6).x
    watching, state = fitted(victim, magnitude=0.02)
    seen = []
    handle = victim.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:8]))
    found = watching.nearest(x)[:, 0]
    handle.remove()
    assert len(seen) == 1 + 3 == watching.rows_per_image
    torch.testing.assert_close(seen[0], x)
    for column, (run, layer) in enumerate(RUNS.items()):
        moved = stepped(victim, state, x, 0.02, layer=layer, run=run)
        torch.testing.assert_close(seen[1 + column], moved)
        after = independent(victim, state, moved, layer, run).amin(1)
        before = independent(victim, state, x, layer, run).amin(1)
        torch.testing.assert_close(found[:, column], after)
        assert (after < before).double().mean() > 0.8
    assert (torch.stack(seen) < 0).any()  # not clipped


def test_without_a_step_one_pass_gives_everything():
    victim, x = classifier(), images(8, seed=6).x
    watching, _ = fitted(victim, magnitude=0)
    passes = []
    victim.network.register_forward_hook(lambda *_: passes.append(1))
    seen = watching.observe(x.clone().requires_grad_())
    assert len(passes) == 1 == watching.rows_per_image
    torch.testing.assert_close(seen.logits, victim(x))


def test_without_examples_the_last_run_of_the_layer_counts():
    victim, x = classifier(), images(8, seed=6).x
    watching, state = fitted(victim, learns_from=None, layers="relu")
    wanted = independent(victim, state, x, layer=1, run="relu#2").amin(1)
    torch.testing.assert_close(watching.score(x), wanted)


def test_the_supervised_score_is_the_log_odds_and_a_class_scores_as_if_it_were_nearest():
    victim, x = classifier(), images(8, seed=6).x
    watching, state = fitted(victim, magnitude=0)
    every = torch.stack([independent(victim, state, x, layer, run) for run, layer in RUNS.items()], 2)

    def odds(rows):
        return ((rows - state["low"]) / state["span"]) @ state["weight"] + state["bias"]

    score = odds(every.amin(1))
    seen = watching.observe(x)
    torch.testing.assert_close(seen.score, score, rtol=1e-5, atol=1e-5)
    wanted = torch.maximum(odds(every), score[:, None])
    torch.testing.assert_close(seen.penalties, wanted, rtol=1e-5, atol=1e-5)
    assert (seen.penalties > seen.score[:, None] + 0.1).any()
    assert (seen.penalties >= seen.score[:, None]).all()


def numerical(function, x, step=1e-6):
    """Central differences, one pixel at a time. (B, C, H, W) -> (B, C, H, W)"""
    slope = torch.zeros_like(x)
    for pixel in range(x[0].numel()):
        nudge = torch.zeros_like(x).flatten(1)
        nudge[:, pixel] = step
        nudge = nudge.view_as(x)
        slope.flatten(1)[:, pixel] = (function(x + nudge) - function(x - nudge)) / (2 * step)
    return slope


def analytical(watching, x):
    start = x.clone().requires_grad_()
    return torch.autograd.grad(watching.score(start).sum(), start)[0]


def test_the_unsupervised_gradient_is_that_of_the_distance():
    watching, _ = fitted(learns_from=None)
    x = images(5, seed=7).x
    torch.testing.assert_close(
        analytical(watching, x), numerical(watching.score, x), rtol=1e-5, atol=1e-6
    )


def test_attacks_see_the_step_as_constant():
    victim, x = classifier(), images(5, seed=7).x
    watching, state = fitted(victim, learns_from=None, layers="tanh", magnitude=0.02)
    where = {"layer": 0, "run": "tanh"}
    constant = stepped(victim, state, x, 0.02, **where) - x
    wanted = numerical(lambda z: independent(victim, state, z + constant, **where).amin(1), x)
    torch.testing.assert_close(analytical(watching, x), wanted, rtol=1e-5, atol=1e-6)


def test_the_supervised_gradient_is_that_of_the_log_odds():
    victim, x = classifier(), images(5, seed=7).x
    watching, state = fitted(victim, magnitude=0.01)
    constant = [stepped(victim, state, x, 0.01, layer=layer, run=run) - x for run, layer in RUNS.items()]

    def odds(z):
        rows = [
            independent(victim, state, z + constant[layer], layer, run).amin(1)
            for run, layer in RUNS.items()
        ]
        rows = torch.stack(rows, 1)
        return ((rows - state["low"]) / state["span"]) @ state["weight"] + state["bias"]

    found = analytical(watching, x)
    assert float(found.abs().max()) > 1e-3
    torch.testing.assert_close(found, numerical(odds, x), rtol=1e-4, atol=1e-5)


def test_steps_are_taken_without_gradients_too_and_leave_nothing_behind():
    watching, _ = fitted(magnitude=0.01)
    x = images(5, seed=7).x
    with torch.no_grad():
        seen = watching.observe(x)
    assert not any(value.requires_grad for value in seen[:3])
    assert not x.requires_grad
    heard = []
    start = x.clone().requires_grad_()
    listened = start.view_as(start)
    listened.register_hook(heard.append)
    attached = watching.observe(listened)
    torch.testing.assert_close(attached.score.detach(), seen.score)
    torch.testing.assert_close(attached.penalties.detach(), seen.penalties)
    assert not heard
    attached.score.sum().backward()
    assert len(heard) == 1
    assert all(parameter.grad is None for parameter in watching.parameters())


@pytest.mark.parametrize("knobs", [{}, {"magnitude": 0}, {"learns_from": None}])
def test_an_image_alone_scores_as_in_a_batch(knobs):
    watching, _ = fitted(dtype=torch.float32, **knobs)
    x = images(40, torch.float32, seed=8).x
    together = watching.observe(x)
    alone = [watching.observe(row[None]) for row in x]
    for whole, parts in zip(together[:3], zip(*alone, strict=True), strict=False):
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)
