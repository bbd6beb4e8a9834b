"""Each attack beside Foolbox's and ART's, on the same net and images and with the same parameters."""

import math
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import eagerpy as ep
import foolbox
import torch
import torch.nn.functional as F
from foolbox import attacks as fb
from foolbox.criteria import TargetedMisclassification
from harness import arguments, correct, images, ratio, show, timed, trained
from torch import Tensor, nn

from nfbench import Attack, Budget, Classifier, Draws, Objective, Recorder, Split, Victim
from nfbench_attacks.bim_a import BIMa
from nfbench_attacks.cw import CarliniWagner
from nfbench_attacks.gradient import FGSM, PGD, PGDL2, BIMb
from nfbench_attacks.jsma import JSMA
from nfbench_attacks.spsa import SPSA
from nfbench_attacks.targets import aim
from nfbench_threats.whitebox import PartialWhitebox

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from art.attacks import evasion as art
    from art.estimators.classification import PyTorchClassifier

EPS, L2, PIXELS = 0.3, 2.0, 78
Run = Callable[[], object]


class StillRight(nn.Module):
    """Cross-entropy of what is still classified correctly, which turns BIM into BIM-a."""

    reduction = "mean"

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        labels = labels.argmax(1) if labels.dim() == 2 else labels
        right = logits.argmax(1) == labels
        return (F.cross_entropy(logits, labels, reduction="none") * right).sum()


class FoolboxBIMa(fb.LinfBasicIterativeAttack):  # type: ignore[misc]  # Foolbox is untyped here
    """Foolbox's BIM on that loss."""

    def get_loss_fn(self, model: object, labels: ep.Tensor) -> Callable[[ep.Tensor], ep.Tensor]:
        return lambda x: ep.astensor(StillRight()(model(x).raw, labels.raw))  # type: ignore[operator]


@dataclass(frozen=True)
class Setting:
    """A net, some images, and how either side is run on them."""

    classifier: Classifier
    split: Split
    model: foolbox.PyTorchModel = field(init=False)

    def __post_init__(self) -> None:
        model = foolbox.PyTorchModel(self.classifier, bounds=(0, 1), device="cpu")
        object.__setattr__(self, "model", model)

    def take(self, count: int) -> "Setting":
        return Setting(self.classifier, self.split.take(torch.arange(len(self.split)) < count))

    def objective(self, attack: Attack, budget: Budget) -> Objective:
        """What the static white box hands to an attack."""
        recorder = Recorder(Victim(self.classifier), self.split.x, self.split.y, budget)
        return PartialWhitebox().objective(attack.static_objective, recorder, self.split.y, None)

    def ours(self, attack: Attack, eps: float) -> Run:
        budget = Budget(attack.norm, eps)
        index = self.split.index.tolist()

        def run() -> Tensor:
            return attack.perturb(self.objective(attack, budget), self.split.x, budget, Draws(0, index))

        return run

    def foolbox(self, attack: fb.Attack, eps: float) -> Run:
        return lambda: attack.run(self.model, self.split.x, self.split.y, epsilon=eps)

    def art(
        self,
        attack: type,
        *,
        net: nn.Module | None = None,
        loss: nn.Module | None = None,
        **params: object,
    ) -> Run:
        network, shape = net or self.classifier, tuple(self.split.x.shape[1:])
        loss = loss or nn.CrossEntropyLoss()
        wrapped = PyTorchClassifier(
            network, loss, input_shape=shape, nb_classes=10, clip_values=(0, 1), device_type="cpu"
        )
        labels = params.pop("labels", self.split.y)
        made = attack(wrapped, **{"batch_size": len(self.split), **params})
        return lambda: made.generate(self.split.x.numpy(), labels.numpy())  # type: ignore[attr-defined]

    def targets(self) -> Tensor:
        """The classes that static CW and JSMA aim at."""
        objective = self.objective(JSMA(), Budget("l0", PIXELS))
        aimed = aim(objective, self.split.x, Draws(0, self.split.index.tolist()), "random")
        assert aimed.targets is not None
        return aimed.targets


def gradient_attacks(s: Setting) -> dict[str, tuple[dict[str, Run], str]]:
    bim = {"eps": EPS, "eps_step": 0.01, "max_iter": 50, "verbose": False}
    pgd = {"eps": EPS, "eps_step": 0.05 * EPS, "max_iter": 40, "num_random_init": 1, "verbose": False}
    ball = {"norm": 2, "eps": L2, "eps_step": 0.05 * L2, "max_iter": 40, "num_random_init": 1}
    same = {"steps": 40, "step": 0.05, "schedule": "constant"}
    start = {"steps": 40, "rel_stepsize": 0.05}
    return {
        "fgsm": (
            {
                "nfbench": s.ours(FGSM(), EPS),
                "Foolbox": s.foolbox(fb.LinfFastGradientAttack(), EPS),
                "ART": s.art(art.FastGradientMethod, eps=EPS),
            },
            "<= 1.10",
        ),
        "bim-a": (
            {
                "nfbench": s.ours(BIMa(), EPS),
                "Foolbox": s.foolbox(FoolboxBIMa(abs_stepsize=0.01, steps=50, random_start=False), EPS),
                "ART": s.art(art.BasicIterativeMethod, loss=StillRight(), **bim),
            },
            "<= 0.33",
        ),
        "bim-b": (
            {
                "nfbench": s.ours(BIMb(), EPS),
                "Foolbox": s.foolbox(
                    fb.LinfBasicIterativeAttack(abs_stepsize=0.01, steps=50, random_start=False), EPS
                ),
                "ART": s.art(art.BasicIterativeMethod, **bim),
            },
            "<= 1.10",
        ),
        "pgd": (
            {
                "nfbench": s.ours(PGD(**same), EPS),
                "Foolbox": s.foolbox(fb.LinfProjectedGradientDescentAttack(**start), EPS),
                "ART": s.art(art.ProjectedGradientDescent, **pgd),
            },
            "<= 1.10",
        ),
        "pgd-l2": (
            {
                "nfbench": s.ours(PGDL2(**same), L2),
                "Foolbox": s.foolbox(fb.L2ProjectedGradientDescentAttack(**start), L2),
                "ART": s.art(art.ProjectedGradientDescent, verbose=False, **ball),
            },
            "<= 1.10",
        ),
    }


def other_attacks(s: Setting) -> dict[str, tuple[dict[str, Run], str]]:
    cw, few = CarliniWagner(binary_search_steps=3, steps=30, initial_const=1.0), s.take(8)
    library = fb.L2CarliniWagnerAttack(3, 30, cw.learning_rate, 0, cw.initial_const, abort_early=False)
    softmax = nn.Sequential(s.classifier, nn.Softmax(1)).eval()
    share = PIXELS / s.split.x[0].numel() - 1e-6
    jsma = {"theta": 1.0, "gamma": share, "verbose": False, "labels": s.targets(), "net": softmax}
    spsa = SPSA(steps=5)
    return {
        "cw": (
            {
                "nfbench": s.ours(cw, math.inf),
                "Foolbox": lambda: library.run(
                    s.model, s.split.x, TargetedMisclassification(s.targets())
                ),
            },
            "<= 1.10",
        ),
        "jsma": (
            {
                "nfbench": s.ours(JSMA(), PIXELS),
                "ART": s.art(art.SaliencyMapMethod, **jsma),
                "ART, one by one": s.art(art.SaliencyMapMethod, **jsma, batch_size=1),
            },
            "<= 0.33",
        ),
        "spsa": (
            {"nfbench": few.ours(spsa, EPS), "a loop over images": lambda: spsa_loop(few, spsa)},
            "<= 1.10",
        ),
    }


@torch.no_grad()
def spsa_loop(s: Setting, attack: SPSA) -> list[Tensor]:
    """SPSA as one would write it: image by image, all probes of a step in one batch."""
    found = []
    for x, label in zip(s.split.x, s.split.y, strict=True):
        x_adv = (x + EPS * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
        adam = torch.optim.Adam([x_adv], lr=attack.learning_rate, maximize=True)
        others = torch.arange(10) != label
        for _ in range(attack.steps):
            signs = torch.randint(2, (attack.samples // 2, *x.shape)) * 2.0 - 1
            logits = s.classifier(
                torch.cat([x_adv + attack.delta * signs, x_adv - attack.delta * signs])
            )
            up, down = (logits[:, others].amax(1) - logits[:, label]).chunk(2)
            x_adv.grad = ((up - down).view(-1, 1, 1, 1) / 2 * signs).mean(0)
            adam.step()
            x_adv.copy_(torch.minimum(torch.maximum(x_adv, x - EPS), x + EPS).clamp(0, 1))
        found.append(x_adv)
    return found


def main() -> None:
    given = arguments(__doc__ or "")
    splits = images(given.data_dir)
    classifier = trained(splits)
    setting = Setting(classifier, correct(classifier, splits.test, 128))
    rows: list[list[object]] = []
    for name, (runs, goal) in {**gradient_attacks(setting), **other_attacks(setting.take(64))}.items():
        seconds = timed(runs, given.repeats * (5 if name == "fgsm" else 1))
        rivals = [rival for rival in runs if rival != "nfbench"]
        fastest = min(rivals, key=lambda rival: statistics.median(seconds[rival]))
        times = [statistics.median(seconds["nfbench"])]
        times += [_median(seconds, rivals, prefix) for prefix in ("Foolbox", "ART", "a loop")]
        rows.append([name, *times, fastest, ratio(seconds, "nfbench", fastest), goal])
    headers = [
        "attack",
        "nfbench, s",
        "Foolbox, s",
        "ART, s",
        "plain loop, s",
        "fastest rival",
        "nfbench / it",
        "goal",
    ]
    data = "MNIST" if given.data_dir else "blobs"
    show(f"128 images of {data} (CW, JSMA: 64; SPSA: 8) on mnist-table8, CPU time", headers, rows)


def _median(seconds: dict[str, list[float]], rivals: list[str], prefix: str) -> float | None:
    """Of the fastest way to run that rival; None if it has no such attack."""
    found = [statistics.median(seconds[rival]) for rival in rivals if rival.startswith(prefix)]
    return min(found, default=None)


if __name__ == "__main__":
    main()
