"""The logistic regression that supervised baselines share."""

import numpy as np
import pytest
import torch
from logistic_bench import counted

from nfbench import Examples, Split, UsageError
from nfbench_defenses.logistic import block_split, fit_logistic, log_odds, taught_by


def kinds(count=60, width=3, seed=0):
    """Adversarial rows some way off clean and noisy ones."""
    generator = torch.Generator().manual_seed(seed)
    clean, noisy, adversarial = torch.randn(3, count, width, generator=generator)
    return adversarial + 1.5, clean, noisy


@pytest.mark.parametrize(("images", "rows"), [(9920, 7900), (1320, 1000), (1129, 900), (124, 0)])
def test_the_block_split_is_that_of_the_code_of_lid(images, rows):
    assert block_split(images) == rows


def examples(count):
    x = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(-1, 1, 2, 2) / count
    split = Split(x, torch.arange(count) % 2, torch.arange(count))
    return Examples(split, x + 0.5, x + 0.25, "fgsm")


def test_a_block_has_the_first_images_in_all_three_kinds():
    given = examples(300)
    found = taught_by("lid", given, "block")
    assert len(found.clean) == 200
    assert torch.equal(found.adversarial, given.adversarial[:200])
    assert torch.equal(found.noisy, given.noisy[:200])
    assert torch.equal(found.clean.index, torch.arange(200))
    assert taught_by("lid", given, "all") is given


def test_too_few_images_for_a_block_are_refused():
    with pytest.raises(UsageError, match=r"lid\.rows = 'block' needs 125 attacked images, got 124"):
        taught_by("lid", examples(124), "block")


def test_log_odds_are_scikit_learns_on_scaled_rows():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.preprocessing import MinMaxScaler

    adversarial, clean, noisy = kinds()
    rows = torch.cat([adversarial, clean, noisy]).double().numpy()
    scaler, y = MinMaxScaler().fit(rows), np.repeat([1, 0, 0], 60)
    folds = list(GroupKFold(5).split(rows, groups=np.tile(np.arange(60), 3)))
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": np.logspace(-4, 4, 10)}, cv=folds)
    odds = search.fit(scaler.transform(rows), y).decision_function(scaler.transform(rows))
    wanted = counted(odds, odds[60:120])
    found = log_odds(torch.as_tensor(rows), fit_logistic("x", adversarial, clean, noisy))
    assert np.linalg.norm(found.numpy() - wanted) / np.linalg.norm(wanted) < 1e-9


def test_one_outlier_does_not_cost_the_digits_of_all_other_scores():
    adversarial, clean, noisy = (kind[:, :1] for kind in kinds())
    adversarial[0] = 1e6
    state = fit_logistic("x", adversarial, clean, noisy)
    assert float((state["weight"] / state["span"]).abs()) == pytest.approx(
        1 / float(np.subtract(*np.percentile(clean, [75, 25]))), rel=1e-6
    )
    found = log_odds(clean, state)
    assert found.dtype == torch.float32
    assert len(found.unique()) == len(clean.unique())
    assert found.median().abs() < 0.1


def test_where_all_clean_rows_agree_the_others_set_the_scale():
    adversarial, clean, noisy = kinds()
    state = fit_logistic("x", adversarial, torch.ones_like(clean), noisy)
    assert float(log_odds(torch.ones(1, 3), state)) == pytest.approx(0, abs=1e-6)
    found = log_odds(adversarial, state)
    assert found.isfinite().all()
    assert found.std() > 1


def test_the_scale_of_a_feature_does_not_matter():
    adversarial, clean, noisy = kinds()
    scale = torch.tensor([1.0, 1e-6, 1e6])
    plain = log_odds(clean, fit_logistic("x", adversarial, clean, noisy))
    scaled = fit_logistic("x", adversarial * scale, clean * scale, noisy * scale)
    assert torch.allclose(log_odds(clean * scale, scaled), plain, rtol=1e-3, atol=1e-3)


def test_a_constant_feature_has_no_say():
    rows = [torch.cat([kind, torch.ones(60, 1)], 1) for kind in kinds()]
    state = fit_logistic("x", *rows)
    moved = rows[0].clone()
    moved[:, 3] = 100.0
    assert torch.equal(log_odds(moved, state), log_odds(rows[0], state))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.ones_like, "x can't learn: its features are the same for all"),
        (lambda kind: kind[:1], "x can't learn from 1 attacked images; raise --train-limit"),
        (
            lambda kind: kind.where(kind < 2.5, torch.inf),
            r"features of \d+ of 180 images are not finite",
        ),
    ],
)
def test_what_can_not_be_learnt_from_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        fit_logistic("x", *map(change, kinds()))
