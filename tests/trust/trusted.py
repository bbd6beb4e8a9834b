"""Runs to submit, and archives taken apart and put together again."""

import json
import zipfile
from hashlib import sha256

from safetensors.numpy import load, save

from nfbench.runner.options import Options
from nfbench.session import Place, execute
from nfbench.trust.means import Silent

USUAL = {
    "defense": ("kd", "max-softmax"),
    "attacks": ("fgsm", "pgd"),
    "limit": 40,
    "eps": ("0.25",),
    "settings": {"training": {"epochs": 1}, "pgd": {"steps": 10}},
}

SMALL = {"defense": ("max-softmax",), "threat_model": ("partial-whitebox", "adaptive-whitebox")}
WEAK = SMALL | {"attacks": ("fgsm",), "eps": ("0.1", "0.25"), "settings": {"training": {"epochs": 1}}}
ROW = "max-softmax--fgsm--adaptive-whitebox--linf-0.1--seed0"
LARGER = "max-softmax--fgsm--adaptive-whitebox--linf-0.25--seed0"
STATIC = "max-softmax--fgsm--partial-whitebox--linf-0.1--seed0"
DAY = "2026-11-21"


def run_into(home, registry, *, name="run", cache="cache", **changes):
    """Execute a small run below `home`; its directory."""
    options = Options(**(USUAL | changes))
    return execute(options, Place(home / name, home / cache, "cpu"), registry, Silent()).out


def members(archive):
    """Contents of an archive by name."""
    with zipfile.ZipFile(archive) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def repack(archive, contents, *, signed=True):
    """Write an archive anew; `signed`: with a manifest that fits its members."""
    if signed:
        manifest = json.loads(contents["manifest.json"])
        manifest["members"] = {
            name: {"sha256": sha256(data).hexdigest(), "size": len(data)}
            for name, data in contents.items()
            if name != "manifest.json"
        }
        contents = {**contents, "manifest.json": json.dumps(manifest).encode()}
    with zipfile.ZipFile(archive, "w") as packed:
        for name, data in contents.items():
            packed.writestr(name, data)
    return archive


def change_tensors(data, **changes):
    """A safetensors file with some arrays passed through functions."""
    arrays = load(data)
    return save(arrays | {name: change(arrays[name].copy()) for name, change in changes.items()})


def artifact_of(contents, **wanted):
    """Name of the tensors of the first artifact whose job has these parts of a recipe."""
    for name in sorted(contents):
        if name.startswith("artifacts/") and name.endswith("manifest.json"):
            job = json.loads(contents[name])["job"]
            facts = {"kind": job["kind"], **job["recipe"]}
            found = {k: v.get("name") if isinstance(v, dict) else v for k, v in facts.items()}
            if all(found.get(k) == v for k, v in wanted.items()):
                return name.replace("manifest.json", "tensors.safetensors")
    raise AssertionError(wanted)


def edit_lines(run, change):
    """Pass every line of a run directory through a function that changes it."""
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    for line in lines:
        change(line)
    (run / "results.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")


def from_elsewhere(line):
    """Say that another kind of processor scored a cell."""
    line["environment"]["device"] = "cpu (arm64)"


def sent(folder, index, images, source="Somebody, https://example.org", name="sent", **more):
    path = folder / f"{name}.safetensors"
    path.write_bytes(save({"index": index, "images": images, **more}, {"source": source}))
    return path
