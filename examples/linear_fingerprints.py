"""Theorem 1 of the NeuralFP paper: what fingerprints of a linear SVM accept, and a point they miss."""

import numpy as np

from nfbench.reproduce.linear import LinearDetector, Margins
from nfbench.reproduce.separable import widest

rng = np.random.default_rng(0)
y = np.repeat([-1, 1], 50)
x = rng.normal(size=(100, 2))  # two clouds on either side of the second axis
x[:, 0] = y * (1 + np.abs(x[:, 0]))

plane = widest(x, y)  # f(x) = <w, x> + b, the hard-margin SVM
detector = LinearDetector(plane, Margins.of(plane, x, y))
for label, band in zip("-+", detector.bands, strict=True):
    print(f"accepted as class {label}: signed distances to the plane in {band}")

real = x[:1]  # of class -
middle = (detector.margins.positive_min + detector.margins.positive_max) / 2
crossed = real + (middle - plane.distance(real))[:, None] * plane.normal
along = np.array([-plane.normal[1], plane.normal[0]])
inputs = {
    "a real example": real,
    "moved just over the plane": real + (0.01 - plane.distance(real))[:, None] * plane.normal,
    "moved on into the band of the other class": crossed,
    "and then 1000 along the plane": crossed + 1000 * along,
}
for name, point in inputs.items():
    label = "-+"[int(detector.predict(point)[0] > 0)]
    verdict = "accepted" if detector.accepts(point)[0] else "rejected"
    print(f"{name}: class {label}, {verdict}, {np.linalg.norm(point - real):.2f} from where it was")
