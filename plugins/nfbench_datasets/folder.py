"""Anyone's images, in one folder a class: MiniImagenet-20 and the like."""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nfbench import Count, DataMissing, Dataset, Defaults, Facts, Splits, Training
from nfbench_datasets.arrays import Part, key_of, one_line, split

_CALIBRATION = 5000
_NEEDED = "imagefolder needs --data-dir DIR with DIR/train/<class>/* and DIR/test/<class>/*"
_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})


class ImageFolder(Dataset):
    """DIR/train/<class>/* and DIR/test/<class>/* below the data directory, in colour.

    The shorter side is resized to 256/224 of `size`, the centre cropped (released code, which augments
    nothing here). A fifth of the training images, at most 5000, is held out for calibration. All
    images are held in memory, 0.6 MB each at 224 x 224.
    """

    name = "imagefolder"
    defaults: ClassVar[Defaults] = Defaults(
        model="alexnet-table7",
        training=Training(  # weight decay and epochs: released code; the rest, not given, as CIFAR-10
            optimizer="sgd",
            learning_rate=1e-2,
            momentum=0.9,
            weight_decay=1e-6,
            batch_size=128,
            epochs=30,
        ),
        eps={
            "linf": 16 / 255,  # Table 2
            "l2": 3.0,  # our choice, usual on ImageNet
        },
        limit=1328,  # released code
        plugins={
            "neuralfp": {"preset": "code-imagenet", "fingerprints": 20, "eps": 0.05},  # Table 5
            "bim-a": {"step": 16 / 255 / 50},  # released code: eps / steps
            "bim-b": {"step": 16 / 255 / 50},
        },
    )

    size: Count = 224
    """Width and height of the images that the classifier sees."""

    def splits(self, data_dir: Path | None) -> Splits:
        return _load(_listing(_given(data_dir)), self.size)

    def digest(self, data_dir: Path | None) -> str:
        return _listing(_given(data_dir)).digest

    def describe(self, data_dir: Path | None) -> Facts:
        shape = (3, self.size, self.size)
        pairs = 3 * self.size**2 // 20  # JSMA: a tenth of the entries
        budgets = {**self.defaults.eps, "l0": max(1, pairs) * 2}
        defaults = self.defaults.model_copy(update={"eps": budgets})
        return Facts(shape, len(_listing(_given(data_dir)).classes), defaults)


class _Image(NamedTuple):
    file: Path
    label: int
    key: bytes


class _Listing(NamedTuple):
    """Every image file by its content, before any is decoded."""

    classes: tuple[str, ...]
    train: tuple[_Image, ...]
    test: tuple[_Image, ...]
    digest: str


def _given(data_dir: Path | None) -> Path:
    if data_dir is None:
        raise DataMissing(_NEEDED)
    return data_dir


@lru_cache(maxsize=1)
def _listing(root: Path) -> _Listing:
    """The files of both parts; reads each once.

    Raises:
        DataMissing: if a part, its classes or its images are missing.
    """
    classes, others = _classes(root / "train"), _classes(root / "test")
    if classes != others:
        odd = ", ".join(sorted(set(classes) ^ set(others)))
        raise DataMissing(f"{root}/train and {root}/test must hold the same classes; only one has {odd}")
    if len(classes) < 2:
        raise DataMissing(f"{root}/train holds {len(classes)} class folders; it takes at least 2")
    train, test = (_images(root / part, classes) for part in ("train", "test"))
    content = sha256()
    for image in train + test:
        content.update(f"{image.file.relative_to(root).as_posix()}\0".encode() + image.key)
    return _Listing(classes, train, test, content.hexdigest())


def _classes(part: Path) -> tuple[str, ...]:
    """Names of the class folders, in the order of their labels."""
    try:
        return tuple(sorted(p.name for p in part.iterdir() if p.is_dir() and not p.name.startswith(".")))
    except OSError as error:
        raise DataMissing(f"can't read {part} ({error.strerror}); {_NEEDED}") from None


def _images(part: Path, classes: Sequence[str]) -> tuple[_Image, ...]:
    found = []
    for label, name in enumerate(classes):
        files = sorted(p for p in (part / name).rglob("[!.]*") if p.suffix.lower() in _ENDINGS)
        if not files:
            raise DataMissing(f"{part / name} holds no images ({', '.join(sorted(_ENDINGS))})")
        found += [_Image(file, label, _key(file, label)) for file in files]
    return tuple(found)


def _key(file: Path, label: int) -> bytes:
    try:
        return key_of(file.read_bytes(), label)
    except OSError as error:
        raise DataMissing(f"can't read {file}: {error.strerror}") from None


@lru_cache(maxsize=1)
def _load(listing: _Listing, size: int) -> Splits:
    train, test = (_decoded(images, size) for images in (listing.train, listing.test))
    return split(train, test, min(_CALIBRATION, len(listing.train) // 5))


def _decoded(images: Sequence[_Image], size: int) -> Part:
    from torchvision import transforms

    view = transforms.Compose([transforms.Resize(size * 256 // 224), transforms.CenterCrop(size)])
    x = np.empty((len(images), 3, size, size), dtype=np.uint8)
    for row, image in zip(x, images, strict=True):
        row[:] = _pixels(image.file, view)
    labels = np.array([image.label for image in images], dtype=np.int64)
    return Part(x, labels, [image.key for image in images])


def _pixels(file: Path, view: Any) -> NDArray[np.uint8]:
    """One image, resized and cropped. (3, size, size)"""
    from torchvision.datasets.folder import default_loader

    try:
        return np.asarray(view(default_loader(str(file)))).transpose(2, 0, 1)
    except Exception as error:  # Pillow raises whatever its decoders do
        raise DataMissing(f"can't read the image {file} ({one_line(error)})") from None
