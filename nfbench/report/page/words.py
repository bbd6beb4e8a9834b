"""What a page says: the lead of each section, and terms in a sentence each."""

from __future__ import annotations

from nfbench.report.board import UNDEFENDED

RANKING = (
    "How far each defense's place is known, over the budgets that several attacks share, and the mean "
    "SR@5 % of its worst cases there. Defenses that share a letter can't be told apart (paired over the "
    "same images, Holm's correction over all pairs). Who rests on a flagged attack, or lacks an attack "
    "or a seed that another has, has no place."
)
TABLES = (
    "SR@5 %: share of attacked images misclassified and accepted. Low is good for the defense; the best "
    "of a column and all whose intervals reach down to it are bold. ≤ before an AUROC: an upper bound, "
    "since the attack stops early. ↑: the second half of the attack's passes still moved SR@5 % by more "
    "than 2 points; ranks take it for lost as much again. Column heads sort."
)
HEAT = "The same numbers at one budget, by colour."
LADDER = (
    "How each defense's worst case grows as attackers come to know more of it. Hollow: rests on a "
    "flagged attack."
)
RADIUS = "How each defense's worst case grows with the size of the perturbation; hollow as above."
ROC = (
    "Clean images against each image's worst case S*; images never misclassified count as detected. "
    "Mean over seeds at equal false alarms. Detectors work where those are rare: see the log scale."
)
SCORES = (
    "What the detector says of clean, noisy and attacked images, first seed. Scores beyond an end are "
    "in its last bar."
)
WORST = (
    "Which attack reached the lowest score, among images misclassified at all, all seeds together. "
    "Ticks are images of the first seed, in one order for all defenses: full where the image is "
    "accepted, half where it is only misclassified."
)
GALLERY = "Images before and after, and what classifier and detector said of them."
ALARMS = (
    "Harmless changes of the test images and, under the attack where it is worst, noise as large as its "
    "perturbations; of both, only images still classified correctly. *: costs more than a point of "
    "accuracy here, so it is not harmless."
)
BROKEN = (
    "What others have found: notes of who checked the results, and images that they submitted against a "
    "row. Worst cases hold these as the attack `submitted`."
)
CELLS = "Every cell as its record has it. *: read the remark under the pointer; ≤: an upper bound."

TERMS = {
    "SR@5 %": "Success rate: share of the attacked images that are misclassified and accepted, at the "
    "threshold that rejects 5 % of held-out clean images. Low is good for the defense.",
    "S*": "The lowest detector score of an image over all points inside the budget at which it is "
    "misclassified; infinite where there is none.",
    "worst case": "Each image's lowest S* over all attacks of one threat model and budget. An attacker "
    "who cannot ask the victim's detector cannot choose: there it is the strongest single attack.",
    "[low, high]": "Interval of 95 % for the number before it, where one was computed.",
    UNDEFENDED: "Error of a classifier trained without the defense, under the same attack and budget.",
    "undefended error, gain": "That error, and what is left of it once SR@5 % is taken off: what the "
    "defense is worth against this attack.",
    "robust accuracy": "Share of test images that are correct, accepted and not evaded, at 5 %.",
    "RAUC": "Area under robust accuracy / (1 - p) against the false-alarm rate p.",
    "false alarms": "Share of clean test images that the threshold of 5 % rejects in fact.",
    "noisy": "Clean images with Gaussian noise as large as the attack's perturbation.",
}
THREATS = {
    "blackbox": "knows data and architecture; attacks a replica trained without the defense",
    "partial-whitebox": "knows the classifier, not the detector",
    "limited-knowledge": "knows the method and not its secret; attacks replicas with other secrets",
    "adaptive-whitebox": "knows everything, the secret included",
    "paper-adaptive": "knows everything, and attacks as the NeuralFP paper does",
    "score-queries": "knows nothing and sees scores, for a limited number of questions",
    "decision-queries": "knows nothing and sees decisions, for a limited number of questions",
}
