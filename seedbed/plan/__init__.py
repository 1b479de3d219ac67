"""From a configuration to what is to be done: runs, references, specs, shared steps, and what a dry run tells."""

from seedbed.plan.plan import Plan

__all__ = ["Plan"]
