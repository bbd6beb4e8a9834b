"""The one trainer: every classifier is trained by it, whatever loss a defense wants minimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from nfbench.checkpoints import Checkpoint, Progressed
from nfbench.core.classifier import Classifier
from nfbench.core.dataset import Splits, Training
from nfbench.core.draws import seed_of
from nfbench.core.errors import ContractViolation
from nfbench.core.values import Images, Labels, Split

Loss: TypeAlias = Callable[[Classifier, Images, Labels], Tensor]


def train(  # noqa: PLR0917  # everything a training depends on
    classifier: Classifier,
    splits: Splits,
    training: Training,
    loss: Loss,
    tick: Callable[[float], None],
    checkpoint: Checkpoint | None = None,
) -> Classifier:
    """Minimise `loss`; the classifier, frozen and in eval mode. Uses torch's global seed.

    `select = "min-nll"` keeps the epoch of least clean loss on the calibration images; `tick` is
    called with the share of the training that is done, in (0, 1]. A training that goes on from a
    checkpoint ends in the same weights, bit for bit.

    Raises:
        ContractViolation: when the loss is no longer a number.
    """
    parameters = [p for p in classifier.parameters() if p.requires_grad]
    optimizer = _optimizer(parameters, training)
    device = next(iter(parameters)).device
    part = _part(splits.train, training.images)
    x, y = part.x.to(device), part.y.to(device)
    batches = max(1, len(x) // training.batch_size)
    state = _State(classifier, optimizer)
    first = state.restore(checkpoint.load()) if checkpoint is not None else 0
    for epoch in range(first, training.epochs):
        classifier.train()
        for number, rows in enumerate(torch.randperm(len(x)).to(device).tensor_split(batches)):
            batch = _crop_flip(x[rows]) if training.augment == "crop-flip" else x[rows]
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
                value = loss(classifier, batch, y[rows])
            if not value.isfinite():
                raise ContractViolation(f"training diverged in epoch {epoch + 1}: the loss is {value}")
            value.backward()
            optimizer.step()
            tick((epoch + (number + 1) / batches) / training.epochs)
        classifier.eval()
        if training.select == "min-nll":
            state.compare(_nll(classifier, splits.calibration))
        if checkpoint is not None and epoch + 1 < training.epochs:
            checkpoint.save(partial(state.progressed, epoch + 1))
    if training.select == "min-nll":
        classifier.load_state_dict(state.weights or classifier.state_dict())
    return classifier.eval().requires_grad_(False)


@dataclass(eq=False)
class _State:
    """All that the next epoch depends on."""

    classifier: Classifier
    optimizer: torch.optim.Optimizer
    best: float = float("inf")
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """Those of the best epoch so far."""

    def compare(self, nll: float) -> None:
        """Remember the weights if they are the best so far."""
        if nll < self.best:
            self.best = nll
            self.weights = {k: v.clone() for k, v in self.classifier.state_dict().items()}

    def progressed(self, epochs: int) -> Progressed:
        tensors = {f"weights.{k}": v for k, v in self.classifier.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.weights.items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{k}": v for k, v in values.items() if v is not None}
        tensors["rng.cpu"] = torch.get_rng_state()
        device = next(self.classifier.parameters()).device
        if device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
        return Progressed(tensors, {"epochs": epochs, "best": str(self.best)})

    def restore(self, done: Progressed | None) -> int:
        """Go on from there; the number of epochs that are done."""
        if done is None:
            return 0
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}, "optimizer": {}, "rng": {}}
        for name, tensor in done.tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.classifier.load_state_dict(parts["weights"])
        device = next(self.classifier.parameters()).device
        self.best = float(done.info["best"])
        self.weights = {k: v.to(device) for k, v in parts["best"].items()}
        held: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            number, _, rest = name.partition(".")
            held.setdefault(int(number), {})[rest] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": held})
        torch.set_rng_state(parts["rng"]["cpu"])
        if "cuda" in parts["rng"]:
            torch.cuda.set_rng_state(parts["rng"]["cuda"], device)
        return int(done.info["epochs"])


def _part(train: Split, images: int | None) -> Split:
    """The images that are trained on, the same whatever the seed of the run."""
    if images is None or images >= len(train):
        return train
    generator = torch.Generator().manual_seed(seed_of("training images"))
    return train.take(torch.randperm(len(train), generator=generator)[:images].to(train.x.device))


def _optimizer(parameters: list[torch.nn.Parameter], training: Training) -> torch.optim.Optimizer:
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, rate, weight_decay=decay)
    if training.optimizer == "adadelta":
        return torch.optim.Adadelta(parameters, rate, weight_decay=decay)
    return torch.optim.SGD(parameters, rate, momentum=training.momentum, weight_decay=decay)


@torch.no_grad()
def _nll(classifier: Classifier, held_out: Split) -> float:
    """Mean clean loss."""
    return float(F.cross_entropy(classifier(held_out.x), held_out.y))


def _crop_flip(x: Images) -> Images:
    """Random crop after padding by 4 black pixels, and horizontal flip, each image its own."""
    size, height, width = len(x), x.shape[2], x.shape[3]
    padded = F.pad(x, (4, 4, 4, 4))
    top, left = torch.randint(9, (2, size))
    rows = (top[:, None] + torch.arange(height)).to(x.device)  # (B, H)
    columns = left[:, None] + torch.arange(width)
    columns = torch.where(torch.rand(size, 1) < 0.5, columns.flip(1), columns).to(x.device)
    batch = torch.arange(size, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
