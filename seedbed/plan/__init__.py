"""From a configuration to a plan: runs, references, specs, trunks, and the forecast of a dry run."""

from seedbed.plan.plan import Plan

__all__ = ["Plan"]
