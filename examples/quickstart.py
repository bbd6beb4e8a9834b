"""A network and a score function of one's own, attacked and measured. Run it from anywhere."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import nfbench

digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32).div(16).unsqueeze(1)  # (N, 1, 8, 8) in [0, 1]
y = torch.tensor(digits.target, dtype=torch.int64)

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
for _ in range(100):
    optimizer.zero_grad()
    cross_entropy(network(x[:1000]), y[:1000]).backward()
    optimizer.step()


def suspicion(images: Tensor) -> Tensor:
    """One number an image, higher = more suspicious, differentiable: the free energy of the logits."""
    return -network(images).logsumexp(1)


result = nfbench.evaluate(
    network,
    suspicion,
    x[1000:],  # the first half fixes the threshold and is never attacked
    y[1000:],
    eps=0.1,
    attacks=["fgsm", {"name": "pgd", "steps": 40}],
)
print(result.table())

seen = result.vectors["pgd", "adaptive-whitebox"]  # one entry for each attacked image
unnoticed = (seen["evasion_score"] <= seen["clean_score"]).mean()
print(f"\npgd, knowing: {unnoticed:.0%} are misclassified and look less suspicious than before.")
