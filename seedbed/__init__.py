"""Seedbed: an experimental plot for small language models.

The library behind `scripts/`. Nothing in it knows Snakemake: every stage reads files the stage before it wrote and
writes its own.
"""

import os
import sys

# Code of GPU kernels is never fetched from a hub. The variable, which transformers reads when it is imported, is about
# layers; attention, quantization and RWKV ask for the package `kernels` alone, so that there is none here.
os.environ["USE_HUB_KERNELS"] = "0"
sys.modules.setdefault("kernels", None)

__version__ = "0.1.0"
