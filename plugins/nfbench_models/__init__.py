"""The classifier architectures that come with nfbench."""

from nfbench import Entry, hookimpl


@hookimpl
def nfbench_models() -> list[Entry]:
    """Offered lazily, so that listing them imports no torch."""
    home = "nfbench_models.nets"
    return [
        Entry("digits-mlp", f"{home}:DigitsMLP", "17 k multiply-adds, for 8 x 8 digits"),
        Entry("mnist-table8", f"{home}:Table8", "5 layers, NeuralFP paper Table 8"),
        Entry("mnist-4conv", f"{home}:FourConv", "7 layers, MNIST net of the released code"),
        Entry("cifar-table9", f"{home}:Table9", "7 layers, NeuralFP paper Table 9"),
        Entry("alexnet-table7", f"{home}:Table7", "AlexNet-like, NeuralFP paper Table 7"),
        Entry("mnist-lid", "nfbench_models.lid_nets:MNISTLid", "4 layers with dropout, code of LID"),
        Entry("cifar-lid", "nfbench_models.lid_nets:CIFARLid", "9 layers with dropout, code of LID"),
        Entry("small-conv", f"{home}:SmallConv", "2 convolutions, for images of any size"),
    ]
