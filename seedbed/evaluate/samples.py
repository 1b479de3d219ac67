"""Greedy continuations of prompts."""

from seedbed.evaluate.subject import Subject


def measure(spec: dict, subject: Subject) -> tuple[dict, list[dict]]:
    samples = [
        {"prompt": prompt, "continuation": continued(subject, prompt, spec["max_new_tokens"])}
        for prompt in spec["prompts"]
    ]
    return {"samples": samples}, samples


def continued(subject: Subject, prompt: str, most: int) -> str:
    """The greedy continuation of a prompt after an end-of-sequence token, as a document begins in training."""
    tokenizer = subject.tokenizer
    ids = [tokenizer.eos_token_id, *tokenizer(prompt, add_special_tokens=False).input_ids]
    if subject.most_positions:
        most = min(most, subject.most_positions - len(ids))
    if most < 1:
        return ""
    return tokenizer.decode(subject.greedy(ids, most), skip_special_tokens=True)
