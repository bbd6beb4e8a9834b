"""The flags of the commands: each has a variable `NFBENCH_<FLAG>` of the same meaning."""

from pathlib import Path
from typing import Annotated, Any

import typer


def _option(*names: str, env: str, text: str) -> Any:
    return typer.Option(*names, envvar=f"NFBENCH_{env}", help=text, show_default=False)


Defense = Annotated[
    list[str] | None,
    _option("--defense", "-d", env="DEFENSE", text="Defenses: names, all, globs, !name, package:Class."),
]
Attacks = Annotated[
    list[str] | None,
    _option("--attacks", "-a", env="ATTACKS", text="Attacks, likewise, or strongest. [default: all]"),
]
Threats = Annotated[
    list[str] | None,
    _option(
        "--threat-model",
        "-t",
        env="THREAT_MODEL",
        text="Threat models, likewise. [default: partial-whitebox, adaptive-whitebox]",
    ),
]
Skip = Annotated[
    list[str] | None,
    _option(
        "--skip",
        env="SKIP",
        text="Leave out attack@threat-model, or defense:attack@threat-model; globs. [default: none]",
    ),
]
Defender = Annotated[
    list[str] | None,
    _option(
        "--defender",
        env="DEFENDER",
        text="What supervised defenses learn from: blackbox-defense (one attack, tested on all), "
        "whitebox-defense (each attack they are tested on), or all. [default: blackbox-defense]",
    ),
]
Dataset = Annotated[
    str | None,
    _option("--dataset", env="DATASET", text="A dataset's name, or a file.npz. [default: digits]"),
]
Model = Annotated[
    str | None,
    _option("--model", env="MODEL", text="An architecture, or package.module:factory. [the dataset's]"),
]
Weights = Annotated[
    Path | None,
    _option("--weights", env="WEIGHTS", text="Safetensors for the factory's network; not trained then."),
]
Eps = Annotated[
    list[str] | None,
    _option(
        "--eps",
        env="EPS",
        text="Radii: 0.1 or 8/255 (L-inf), l2=0.5, l1=4, l0=20; several are a ladder. [the dataset's]",
    ),
]
Budget = Annotated[
    str | None,
    _option(
        "--budget",
        env="BUDGET",
        text="How long --attacks strongest may take: quick, standard or thorough. [the dataset's]",
    ),
]
Limit = Annotated[
    int | None, _option("--limit", env="LIMIT", text="Test images attempted. [the dataset's]")
]
TrainLimit = Annotated[
    int | None,
    _option(
        "--train-limit",
        env="TRAIN_LIMIT",
        text="Training images attacked for supervised defenses to learn from, half at most. "
        "[the dataset's]",
    ),
]
Seed = Annotated[list[str] | None, _option("--seed", env="SEED", text="One or more seeds. [default: 0]")]
Setting = Annotated[
    list[str] | None,
    _option(
        "--set",
        env="SET",
        text="One hyperparameter: neuralfp.fingerprints=20. Repeat the flag for more.",
    ),
]
DataDir = Annotated[Path | None, _option("--data-dir", env="DATA_DIR", text="Where dataset files lie.")]
Config = Annotated[
    Path | None, _option("--config", "-c", env="CONFIG", text="A TOML file whose keys are these flags.")
]
Out = Annotated[
    Path | None, _option("--out", "-o", env="OUT", text="The run directory. [default: runs/…]")
]
CacheDir = Annotated[
    Path | None, _option("--cache-dir", env="CACHE_DIR", text="Artifacts shared by all runs.")
]
Device = Annotated[
    str | None, _option("--device", env="DEVICE", text="cpu, cuda, cuda:1. [default: a GPU if any]")
]
Executor = Annotated[
    str | None,
    _option("--executor", env="EXECUTOR", text="Where jobs run: local, ray, slurm. [this process]"),
]
Devices = Annotated[
    str | None,
    _option(
        "--devices",
        env="DEVICES",
        text="Workers of this machine: cpu:4, cuda, cuda:0,cuda:1, auto. Implies --executor local.",
    ),
]
PerDevice = Annotated[
    int | None,
    _option("--jobs-per-device", env="JOBS_PER_DEVICE", text="Workers that share a GPU. [default: 1]"),
]
Address = Annotated[
    str | None,
    _option("--address", env="ADDRESS", text="Of a Ray cluster, 10.0.0.1:6379. Implies --executor ray."),
]
Shard = Annotated[
    str | None,
    _option("--shard", env="SHARD", text="One part of the matrix: 2/4 is the second of four."),
]
Statistic = Annotated[
    str | None,
    _option(
        "--statistic",
        env="STATISTIC",
        text="The AUROC in tables: auroc_worst, auroc_returned, auroc_successes, auroc_noisy or papers. "
        "[default: auroc_worst]",
    ),
]
Power = Annotated[
    float | None,
    typer.Option(
        "--power",
        help="Say how many images and seeds tell this difference of SR@5 apart, such as 0.02.",
        show_default=False,
    ),
]
Pilot = Annotated[
    Path | None,
    typer.Option(
        "--pilot", help="A run directory or results folder that --power learns the spread from."
    ),
]
Plugins = Annotated[
    list[str] | None,
    _option("--plugin", "-p", env="PLUGINS", text="no:NAME switches a plugin or distribution off."),
]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
