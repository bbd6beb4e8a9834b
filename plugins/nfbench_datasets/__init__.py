"""The datasets that come with nfbench."""

from nfbench import Entry, hookimpl


@hookimpl
def nfbench_datasets() -> list[Entry]:
    """Offered lazily, so that listing them imports no torch."""
    return [
        Entry("digits", "nfbench_datasets.digits:Digits", "8 x 8 handwritten digits, embedded"),
        Entry("mnist", "nfbench_datasets.standard:MNIST", "28 x 28 digits; files or download"),
        Entry("cifar10", "nfbench_datasets.standard:CIFAR10", "32 x 32 photographs; files or download"),
        Entry("imagefolder", "nfbench_datasets.folder:ImageFolder", "train/ and test/ class folders"),
        Entry("npz", "nfbench_datasets.npz:Npz", "x_train, y_train, x_test, y_test in one file"),
    ]
