"""Seedbed: an experimental plot for small language models.

The library behind `scripts/`. Nothing in it knows Snakemake: every stage reads files the stage before it wrote and
writes its own.
"""

__version__ = "0.1.0"
