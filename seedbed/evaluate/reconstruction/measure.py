"""How much of a context an ICAE's memory holds: it is reconstructed from it, and continued.

Reconstruction (AE): loss in nats per token and token accuracy under teacher forcing, over the context and EOS; and,
of the first few, what greedy decoding writes: exact match, and BLEU-4 over tokens (Papineni et al. 2002, by sacrebleu).
Continuation (LM), where that was trained: the decoder's loss with memory, with the full context in place of it, and
with no context, on the same tokens. What memory is worth is the loss without it, or with the memory of another context,
minus the loss with it.

Contexts are held-out documents; `patterned`, the same with every id replaced by the next one (arXiv 2307.06945); or
`random`, ids drawn one by one.
"""

from collections.abc import Iterator
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import product

import numpy as np
import sacrebleu
import torch

from seedbed.data.contexts import Contexts, patterned
from seedbed.evaluate.intervals import bootstrap_mean, paired_test
from seedbed.evaluate.reconstruction.result import Result, Shown, Worth
from seedbed.iterate import batched
from seedbed.models.cross_entropy import linear_scores
from seedbed.objectives.icae.batch import Sample, batch_of
from seedbed.objectives.icae.geometry import AE, LM, Geometry
from seedbed.objectives.icae.model import DECODER
from seedbed.objectives.icae.subject import IcaeSubject
from seedbed.progress import progress

# What the decoder sees: the memory, that of another context, the full context, or nothing.
VIEWS = {AE: ("memory", "none", "other"), LM: ("memory", "full", "none")}
FIGURES = ("loss", "accuracy")


def measure(spec: dict, subject: IcaeSubject) -> tuple[Result, list[dict]]:
    facts = subject.facts
    lengths, rates = spec["lengths"] or [facts["seq_len"]], spec["rates"] or [facts["rate"]]
    settings, rows = [], []
    asked = list(product(spec["texts"], lengths, rates))
    for text, length, rate in progress(asked, what="settings", unit="settings"):
        geometry = subject.geometry_at(rate, length)
        read = windows(spec, subject, text, length)
        contexts, found = read[:, :length], scores(subject, geometry, read, length)
        written = decoded(subject, geometry, contexts[: spec["generated"]])
        setting = {"text": text, "length": length, "rate": rate}
        examples = shown(subject, contexts, written, spec["shown"])
        settings.append({**setting, **figures(geometry, contexts, found, written), "shown": examples})
        own = rows_of(contexts, found, written)
        rows += [{**setting, "sample": number, **row} for number, row in enumerate(own)]
    said = ("memory_tokens", "rate", "layout", "decoder", "lora", "seq_len", "lm_ratio", "continuation")
    return {**{key: facts[key] for key in (*said, "leave_tokens_for_lm")}, "settings": settings}, rows


def windows(spec: dict, subject: IcaeSubject, text: str, length: int) -> np.ndarray:
    """Contexts with their continuations [samples, length + continuation]."""
    continuation = subject.facts["continuation"]
    if text == "random":
        generator = np.random.default_rng(spec["seed"])
        return generator.choice(subject.ordinary, (spec["samples"], length + continuation))
    contexts = Contexts(subject.data, "held_out", length, continuation, spec["seed"])
    found = np.stack([contexts.at(place) for place in range(min(spec["samples"], contexts.per_epoch))])
    return patterned(found, subject.ordinary) if text == "patterned" else found


# --- losses ----------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def scores(subject: IcaeSubject, geometry: Geometry, windows: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """Loss and accuracy [samples] by task and what the decoder sees, as `ae_loss_memory`."""
    # Only tokens that are predicted in every view: without a context, nothing comes before the first one.
    geometry = replace(geometry, leave_tokens_for_lm=max(1, geometry.leave_tokens_for_lm))
    others = np.roll(windows[:, :length], -1, 0)  # the next of all, whatever the batches
    parts = [
        scored(subject, geometry, windows[part], others[part])
        for part in batched(range(len(windows)), subject.at_once(length))
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def scored(subject: IcaeSubject, geometry: Geometry, windows: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """`scores` of one batch; `others` are the contexts that another's memory is of."""
    length = others.shape[1]
    contexts, continuations = windows[:, :length], windows[:, length:]
    memory, another = (compressed(subject, geometry, texts) for texts in (contexts, others))
    asked, found = {AE: [np.append(context, subject.end) for context in contexts]}, {}
    if subject.facts["lm_ratio"]:  # it was never asked to continue anything else
        asked[LM] = continuations
    for task, decoded in asked.items():
        samples = [Sample(task, *pair) for pair in zip(contexts, decoded, strict=True)]
        batch = batch_of(geometry, samples).to(subject.device)
        views = {"memory": subject.scores(batch, memory)}
        if task == AE:
            views["other"] = subject.scores(batch, another)
            views["none"] = subject.scores(batch_of(geometry, samples, remembered=False).to(subject.device), None)
        else:
            first = geometry.leave_tokens_for_lm
            views["none"] = plain(subject, continuations, first)
            if subject.room_for(windows.shape[1]):
                views["full"] = plain(subject, windows, length + first)
        for view, (loss, accuracy) in views.items():
            found |= {f"{task}_loss_{view}": loss.cpu().numpy(), f"{task}_accuracy_{view}": accuracy.cpu().numpy()}
    return found


def compressed(subject: IcaeSubject, geometry: Geometry, contexts: np.ndarray) -> torch.Tensor:
    """Memory [samples k, d] of contexts of one length."""
    samples = [subject.compressor.asked(context) for context in contexts]
    return subject.model.compress(batch_of(geometry, samples).to(subject.device))


def plain(subject: IcaeSubject, tokens: np.ndarray, first: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and accuracy [samples] of the decoder as a language model on tokens [samples, n], from the place `first`."""
    ids = torch.from_numpy(tokens).to(subject.device)
    positions = torch.arange(ids.shape[1] - 1, device=subject.device).expand(len(ids), -1)
    hidden = subject.model.read(DECODER, subject.model.embedded(DECODER, ids[:, :-1]), positions)
    targets = ids[:, first:]
    found = linear_scores(hidden[:, first - 1 :].flatten(0, 1), subject.model.head, targets.flatten())
    loss, accuracy = (values.view(targets.shape).mean(1) for values in found)
    return loss, accuracy


# --- what is written -------------------------------------------------------------------------------------------------


def decoded(subject: IcaeSubject, geometry: Geometry, contexts: np.ndarray) -> list[list[int]]:
    """Greedy reconstructions of contexts of one length."""
    made = []
    for part in batched(contexts, subject.at_once(contexts.shape[1])):
        memory = compressed(subject, geometry, np.stack(part)).unflatten(0, (len(part), -1))
        made += subject.compressor.reconstructed(memory, contexts.shape[1], geometry)
    return made


def bleu(contexts: np.ndarray, written: list[list[int]]) -> float:
    """Corpus BLEU-4 in 0..1 over tokens, so that no language's idea of a word matters."""
    spelled = [[" ".join(map(str, ids)) for ids in texts] for texts in (written, contexts.tolist())]
    return sacrebleu.corpus_bleu(spelled[0], [spelled[1]], tokenize="none").score / 100


def shown(subject: IcaeSubject, contexts: np.ndarray, written: list[list[int]], most: int) -> list[Shown]:
    """Originals beside their reconstructions, in pieces of text that are the same in both or differ."""
    decode = subject.compressor.tokenizer.decode
    return [
        compared(decode(context), decode(ids))
        for context, ids in list(zip(contexts.tolist(), written, strict=False))[:most]
    ]


def compared(original: str, written: str) -> Shown:
    pieces = SequenceMatcher(None, original, written, autojunk=False).get_opcodes()
    return {
        "original": [{"text": original[a:b], "same": kind == "equal"} for kind, a, b, _, _ in pieces],
        "written": [{"text": written[a:b], "same": kind == "equal"} for kind, _, _, a, b in pieces],
    }


# --- figures ---------------------------------------------------------------------------------------------------------


def figures(geometry: Geometry, contexts: np.ndarray, found: dict[str, np.ndarray], written: list[list[int]]) -> dict:
    """Means over the samples of one setting, and what memory is worth."""
    length = contexts.shape[1]
    vectors = len(geometry.parts(length)) * geometry.memory_tokens
    means = {
        task: {view: {figure: mean(found, f"{task}_{figure}_{view}") for figure in FIGURES} for view in views}
        for task, views in VIEWS.items()
    }
    return {
        "samples": len(contexts),
        "vectors": vectors,
        "ratio": length / vectors,
        **means,
        "gain": {
            "none": worth(found, "ae_loss_none", "ae_loss_memory"),
            "other": worth(found, "ae_loss_other", "ae_loss_memory"),
            "continuation": worth(found, "lm_loss_none", "lm_loss_memory"),
        },
        "generated": len(written),
        "bleu": bleu(contexts[: len(written)], written) if written else None,
        "exact": float(np.mean(exact(contexts, written))) if written else None,
    }


def mean(found: dict[str, np.ndarray], key: str) -> float | None:
    """None where it was not measurable."""
    return float(found[key].mean()) if key in found else None


def worth(found: dict[str, np.ndarray], without: str, with_it: str) -> Worth | None:
    """Nats per token saved: mean, 95% bootstrap interval over samples, p of a paired sign-flip test."""
    if with_it not in found:
        return None
    differences = (found[without] - found[with_it]).astype(np.float64)
    return {
        "mean": float(differences.mean()),
        "interval": bootstrap_mean(differences),
        "p": paired_test(differences),
    }


def exact(contexts: np.ndarray, written: list[list[int]]) -> list[bool]:
    return [ids == context.tolist() for context, ids in zip(contexts, written, strict=False)]


def rows_of(contexts: np.ndarray, found: dict[str, np.ndarray], written: list[list[int]]) -> Iterator[dict]:
    """The figures of each sample, empty where they were not measurable; `exact` where it was not written out."""
    matches = exact(contexts, written)
    tasks = [task for task in VIEWS if f"{task}_loss_memory" in found]
    keys = [f"{task}_{figure}_{view}" for task in tasks for view in VIEWS[task] for figure in FIGURES]
    for number in range(len(contexts)):
        figures = {key: float(found[key][number]) if key in found else "" for key in keys}
        yield {**figures, "exact": int(matches[number]) if number < len(matches) else ""}
