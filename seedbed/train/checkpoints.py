"""Checkpoints that are whole or ignored.

DeepSpeed writes its files into a hidden folder; a manifest with their sizes and checksums is written last, then the
folder is renamed to `step-<n>`. Reading goes from the newest to the oldest and takes the first whose files are as the
manifest says.
"""

from collections.abc import Callable
from pathlib import Path

from seedbed.errors import SeedbedError
from seedbed.files import flush, read_json, remove, sha256, write_json

KEEP = 2  # the newest may turn out damaged: the one before is the way back


def folder_of(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def save(
    root: Path, step: int, write: Callable[[Path, str], None], facts: dict, leader: bool, barrier: Callable
) -> None:
    """Save a checkpoint; every rank calls this.

    `write(root, tag)` writes this rank's files below root/tag; `facts` go into the manifest.
    """
    tag = f".step-{step:08d}.partial"
    if leader:
        remove(root / tag)
    barrier()
    write(root, tag)
    barrier()
    if leader:
        files = {path.name: describe(path) for path in sorted((root / tag).iterdir()) if path.is_file()}
        write_json(root / tag / "manifest.json", {"step": step, **facts, "files": files})
        flush(root / tag)
        remove(folder_of(root, step))
        (root / tag).rename(folder_of(root, step))
        for old in sorted(root.glob("step-*"))[:-KEEP]:
            remove(old)
    barrier()


def describe(path: Path) -> dict:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def newest(root: Path, report: Callable[[str], None]) -> dict | None:
    """The manifest of the newest whole checkpoint below `root`, or None; damaged ones are reported and passed over."""
    for folder in sorted(root.glob("step-*"), reverse=True):
        if not (folder / "manifest.json").exists():
            report(f"{folder}: no manifest: passed over")
            continue
        try:
            manifest = read_json(folder / "manifest.json")
        except SeedbedError as error:
            report(f"{error}: passed over")
            continue
        damaged = [name for name, facts in manifest["files"].items() if not intact(folder / name, facts)]
        if not damaged:
            return manifest
        report(f"{folder}: damaged checkpoint ({', '.join(damaged)}): passed over")
    return None


def intact(path: Path, facts: dict) -> bool:
    return path.exists() and path.stat().st_size == facts["bytes"] and sha256(path) == facts["sha256"]
