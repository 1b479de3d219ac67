"""Properties of this machine, for training and for provenance."""

import ctypes
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("seedbed", "snakemake", "torch", "deepspeed", "transformers", "tokenizers", "datasets", "numpy")


def bf16_is_fast() -> bool:
    """Whether bf16 products run in hardware here; emulated ones are slower than fp32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next tensor; else the kernel zeroes fresh pages for each large one."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the maximum that it accepts
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory_bytes() -> dict[str, int]:
    """Peak resident memory of this process so far, and of its GPU if it has one."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peak["device"] = torch.cuda.max_memory_allocated()
    return peak


def machine() -> dict:
    """Processor, GPUs, and what else timings depend on."""
    facts = {"platform": platform.platform(), "processor": processor(), "cores": torch.get_num_threads()}
    if torch.cuda.is_available():
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def software() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}}


def installed(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return "absent"


@cache
def git_revision() -> str | None:
    """Commit of the source tree of this library, with `+changes` if it differs; None where git does not track it."""
    file = Path(__file__)
    tracked = ["git", "ls-files", "--error-unmatch", file.name]  # a repository around an environment is another's
    described = ["git", "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
    try:
        for command in (tracked, described):
            done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
