"""Greedy continuations of prompts."""

import torch

from seedbed.evaluate.subject import Subject


def measure(spec: dict, subject: Subject) -> tuple[dict, list[dict]]:
    samples = [
        {"prompt": prompt, "continuation": continued(subject, prompt, spec["max_new_tokens"])}
        for prompt in spec["prompts"]
    ]
    return {"samples": samples}, samples


@torch.inference_mode()
def continued(subject: Subject, prompt: str, most: int) -> str:
    """The greedy continuation of a prompt after an end-of-sequence token, as a document begins in training."""
    tokenizer, model = subject.tokenizer, subject.model
    ids = [tokenizer.eos_token_id, *tokenizer(prompt, add_special_tokens=False).input_ids]
    if subject.most_positions:
        most = min(most, subject.most_positions - len(ids))
    if most < 1:
        return ""
    inputs = torch.tensor([ids], device=model.device)
    made = model.generate(
        inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=most, pad_token_id=ids[0]
    )
    return tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True)
