"""Learning rate and batch size from the compute of a run (DeepSeek LLM, arXiv 2401.02954, section 3.1)."""

from typing import TYPE_CHECKING

from seedbed.models.facts import Facts

if TYPE_CHECKING:  # a run asks this for its numbers
    from seedbed.config.run import TokenRun


def flops_per_token(model: Facts, seq_len: int) -> float:
    """Forward and backward of one token, without embeddings: 6 per weight, and 12 per layer, width and position."""
    return 6 * model.blocks + 12 * model.layers * model.width * seq_len


def optimal_lr(flops: float) -> float:
    return 0.3118 * flops**-0.125


def optimal_batch_tokens(flops: float) -> float:
    return 0.292 * flops**0.3271


def resolved(run: "TokenRun") -> "TokenRun":
    """The run with numbers in place of `auto`; its model is written out.

    The batch is a number of sequences near the formula's that many numbers of processes divide: 2^n or 3 * 2^n. Raises
    ValueError where the tokens of the run are not known.
    """
    if "auto" not in (run.batch_tokens, run.optimizer.lr):
        return run
    if run.budget.tokens:
        tokens = run.budget.tokens
    elif run.budget.steps and run.batch_tokens != "auto":
        tokens = run.budget.steps * run.batch_tokens
    else:
        raise ValueError("auto follows from the tokens of a run: expected budget.tokens")
    flops = tokens * flops_per_token(run.model.facts, run.seq_len)
    changes = {}
    if run.optimizer.lr == "auto":
        changes["optimizer"] = run.optimizer.model_copy(update={"lr": float(f"{optimal_lr(flops):.3g}")})
    if run.batch_tokens == "auto":
        sequences = nearest_round(optimal_batch_tokens(flops) / run.seq_len, most=max(1, tokens // run.seq_len))
        changes["batch_tokens"] = run.seq_len * sequences
    return run.model_copy(update=changes)


def nearest_round(number: float, most: int) -> int:
    candidates = [n for power in range(40) for n in (2**power, 3 * 2**power) if n <= most]
    return min(candidates, key=lambda candidate: abs(candidate - number))
