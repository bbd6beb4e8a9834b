"""A network of one's own for `--model examples.own_model:make`; run it to train and save weights.

python examples/own_model.py
nfbench run --defense max-softmax --model examples.own_model:make --weights runs/own_model.safetensors
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy


def make() -> nn.Module:
    """An untrained network from (B, 1, 8, 8) images in [0, 1] to (B, 10) logits."""
    return nn.Sequential(
        nn.BatchNorm2d(1),  # whatever normalisation a network needs is its own
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def trained(epochs: int = 30) -> nn.Module:
    """`make()` fitted to digits that nfbench does not test on, in eval mode."""
    from nfbench_datasets.digits import Digits

    split = Digits().splits(None).train
    torch.manual_seed(0)
    network = make()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(split)).split(64):
            optimizer.zero_grad()
            cross_entropy(network(split.x[rows]), split.y[rows]).backward()
            optimizer.step()
    return network.eval()


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own_model.safetensors")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(trained().state_dict(), target)
    print(f"wrote {target}")
