"""Sizes and precision of training: what they change, and what they leave alone."""

import pytest
import torch
from torch import nn

from nfbench import Classifier, Split, Splits, Training, UsageError
from nfbench.runner.train import train


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 1, 4, 4, generator=generator)
    return Split(x, (x.mean((1, 2, 3)) > 0.5).long(), torch.arange(count))


def trained(loss=None, **settings):
    splits = Splits(images(96), images(32, 1), images(32, 2))
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    training = Training(batch_size=16, learning_rate=0.05, **settings)

    def cross_entropy(classifier, x, y):
        return nn.functional.cross_entropy(classifier(x), y)

    torch.manual_seed(4)
    return train(Classifier(network, 2), splits, training, loss or cross_entropy, lambda _share: None)


def test_training_sees_as_many_images_as_it_is_told_and_always_the_same():
    seen = []

    def spying(classifier, x, y):
        seen.append({tuple(image.flatten().tolist()) for image in x})
        return nn.functional.cross_entropy(classifier(x), y)

    trained(spying, images=40, epochs=2)
    half = len(seen) // 2
    first, second = (set().union(*part) for part in (seen[:half], seen[half:]))
    assert first == second
    assert len(first) == 40
    seen.clear()
    torch.manual_seed(99)
    trained(spying, images=40, epochs=1)
    assert set().union(*seen) == first


def test_more_images_than_there_are_is_all_of_them():
    whole, more = trained(epochs=2), trained(epochs=2, images=1000)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), more.parameters(), strict=True))


def test_half_precision_is_for_the_multiplications_alone():
    kinds = set()

    def spying(classifier, x, y):
        logits = classifier(x)
        kinds.add(logits.dtype)
        return nn.functional.cross_entropy(logits, y)

    made = trained(spying, epochs=3, precision="bfloat16")
    assert kinds == {torch.bfloat16}
    assert {p.dtype for p in made.parameters()} == {torch.float32}
    exact = trained(epochs=3)
    gap, size = (
        sum(
            float((f(a, b)).square().sum())
            for a, b in zip(made.parameters(), exact.parameters(), strict=True)
        )
        for f in (torch.sub, lambda _a, b: b)
    )
    assert 0 < (gap / size) ** 0.5 < 0.1


def test_what_came_later_leaves_the_keys_of_older_jobs_alone():
    assert not {"images", "precision"} & set(Training().identity())
    assert Training(images=7, precision="bfloat16").identity().items() >= {
        ("images", 7),
        ("precision", "bfloat16"),
    }


@pytest.mark.parametrize("wrong", [{"images": 0}, {"precision": "float16"}])
def test_what_can_not_be_is_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Training.from_params(wrong)
