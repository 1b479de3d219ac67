"""Where results may lie: anywhere but where the system, or Seedbed itself, has its files."""

from pathlib import Path

from seedbed.errors import SeedbedError

SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr", "/var")
# Below those, what people may have a place of their own in.
SHARED = ("/dev/shm", "/usr/local", "/var/tmp", "/var/scratch")
OWN = (".ci", ".git", "benchmarks", "docs", "envs", "profiles", "scripts", "seedbed", "studies", "tests", "workflow")


def check_results(results: str, code: Path) -> None:
    """Raise SeedbedError where results cannot lie; `code` is the directory of Seedbed."""
    path, home = Path(results).resolve(), Path.home().resolve()
    own = [place for place in OWN if path.is_relative_to((code / place).resolve())]
    if path in (Path("/"), Path("/home"), home) or is_systems(path):
        what = "belongs to the system, or is the home of people"
    elif own or path == code.resolve():
        what = "has the sources of Seedbed"
    elif in_the_way := [place for place in (path, *path.parents) if place.exists() and not place.is_dir()]:
        what = f"{in_the_way[0]} is a file"
    else:
        return
    raise SeedbedError(f"config: results: {what}; found {results!r}, expected a directory of its own")


def is_systems(path: Path) -> bool:
    below = [place for place in SYSTEM if path.is_relative_to(place)]
    return bool(below) and not any(path.is_relative_to(place) and path != Path(place) for place in SHARED)
