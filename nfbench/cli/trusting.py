"""`submit` and `verify`: what they do, said in a few lines."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from nfbench.cli.console import plain_console
from nfbench.cli.progress import Display
from nfbench.trust import Means, Rerun, break_row, submit, verify


def submit_and_say(run_dir: Path, means: Means, out: Path | None) -> int:
    """Pack a run and say where the archive lies; the exit code."""
    packed = submit(run_dir, means, out)
    console = plain_console()
    console.print(f"{packed.path}: {packed.cells} cells, {packed.bytes / 1e6:.1f} MB")
    console.print(f"SHA-256 of its manifest: {packed.sha256}")
    return 0


def verify_and_say(
    target: Path, means: Means, *, rerun: Rerun | None, date: str, as_json: bool, quiet: bool = False
) -> int:
    """Check results and say how far they can be trusted; the exit code."""
    notes = plain_console(stderr=True)
    with Display(notes, quiet=quiet or rerun is None) as display:
        found = verify(target, replace(means, progress=display), rerun=rerun, date=date)
    if as_json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
        return 0
    console = plain_console()
    lines = [f"{found.finished} of {found.cells} cells have numbers, and these follow from the vectors"]
    if found.level != "self-reported":
        how = "every bit agrees" if found.exact else "agrees within what other devices and versions move"
        lines.append(f"{found.images} adversarial images are in ball and box; scored again, {how}")
    if found.rerun:
        lines.append(f"{len(found.rerun)} cells repeated from nothing (seed {found.rerun_seed}):")
        lines += [f"  {name}" for name in found.rerun]
    for line in [*lines, *found.notes, f"trust level: {found.level}"]:
        console.print(line)
    return 0


def break_and_say(
    images: Path, row: str, folder: Path, means: Means, *, date: str, as_json: bool = False
) -> int:
    """Judge submitted images and say what they lowered; the exit code."""
    one = break_row(images, row, folder, means, date=date)
    if as_json:
        sys.stdout.write(one.model_dump_json(indent=1) + "\n")
        return 0
    console = plain_console()
    console.print(f"{one.fooling} of {one.images} images are misclassified")
    console.print(one.note if one.improved else "no image is lower than what is known: nothing changes")
    return 0
