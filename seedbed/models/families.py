"""Configs of transformers for new models: any causal LM, by the names of its config class."""

import re
from collections.abc import Iterator
from dataclasses import Field, fields
from difflib import get_close_matches
from types import UnionType
from typing import Any, get_args

from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from seedbed.errors import choices
from seedbed.iterate import divisors
from seedbed.models import keynorm
from seedbed.models.facts import MOST_LAYERS, Misfit

# Keys that are no part of an architecture, or that Seedbed sets itself.
COMMON = {field.name for field in fields(PreTrainedConfig)}
SET_HERE = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "use_cache", "dtype", "torch_dtype"}
SET_HERE |= {"attn_implementation", "_attn_implementation", "architectures", "transformers_version"}
# What makes a model's size is said, not left to a family's largest member.
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
# Other sizes that families have, and what a plan can look at in a moment.
OTHER_SIZES = ("num_key_value_heads", "head_dim", "max_position_embeddings")
LARGEST = {"num_hidden_layers": MOST_LAYERS, "max_position_embeddings": 2**30}
WIDEST = 2**20
# Of the language model; that of a classifier on top stays as it is.
DROPOUT = re.compile(r"(?!summary|classifier).*(drop|dropout)(_rate|_prob)?")


def learned_positions(config: PreTrainedConfig) -> int | None:
    """The longest input that a model of this config can be given; None where positions are computed (RoPE, ALiBi)."""
    return None if getattr(config, "rope_parameters", None) else getattr(config, "max_position_embeddings", None)


def config_class(family: str) -> type[PreTrainedConfig]:
    """The config class of a family; raises Misfit for one that is no causal LM, or more than that."""
    if family not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or family not in CONFIG_MAPPING:
        near = get_close_matches(family, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "expected a causal LM of transformers, such as llama or gpt2"
        raise Misfit("family", f"found {family!r}; {hint}")
    kind = CONFIG_MAPPING[family]
    if kind.is_encoder_decoder:
        raise Misfit("family", f"found {family!r}, an encoder-decoder; expected a causal language model")
    if {"text_config", "decoder"} & set(kind.sub_configs_defaults):
        text = f"{family}_text"
        near = f"did you mean {text!r}?" if text in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "expected one of text alone"
        raise Misfit("family", f"found {family!r}, which reads more than text; {near}")
    return kind


def position_field(kind: type[PreTrainedConfig]) -> str | None:
    """The field that says how many positions there are."""
    return own_name(kind, "max_position_embeddings")


def own_name(kind: type[PreTrainedConfig], name: str) -> str | None:
    """What a config class calls a common field, if it has it."""
    name = kind.attribute_map.get(name, name)
    return name if name in {field.name for field in fields(kind)} else None


def config_of(model: dict, vocabulary: int, eos: int, positions: int) -> PreTrainedConfig:
    """The config of a new model; `positions` is what it has room for where its fields do not say.

    `model` has its `family`, `key_norm` and fields. Raises Misfit where its config class refuses them.
    """
    family, key_norm = model["family"], model["key_norm"]
    given = {key: value for key, value in model.items() if key not in ("family", "key_norm")}
    kind = config_class(family)
    known = {field.name: field for field in fields(kind) if field.name not in COMMON | SET_HERE}
    check_keys(kind, known, given)
    given = {key: fitting(known[key], value) if key in known else float(value) for key, value in given.items()}
    check_dropout(given)
    check_sizes(kind, given)
    if key_norm and family not in keynorm.FAMILIES:
        raise Misfit("key_norm", f"is there for {', '.join(keynorm.FAMILIES)}; found family {family!r}")
    chosen = {
        name: 0.0 for name, field in known.items() if isinstance(field.default, float) and DROPOUT.fullmatch(name)
    }
    if place := position_field(kind):
        chosen[place] = positions
    try:
        made = keynorm.FAMILIES[family].config_class if key_norm else kind
        config = made(**special_tokens(kind, eos), vocab_size=vocabulary, **chosen | given)
    except Exception as error:  # each config class raises its own
        raise refused(error, given) from None
    for name in known:  # the same function in one kernel instead of eight
        if getattr(config, name, None) == "gelu_new":
            setattr(config, name, "gelu_pytorch_tanh")
    return config


def check_keys(kind: type[PreTrainedConfig], known: dict[str, Field], given: dict) -> None:
    """Raise Misfit at a key that is no field of the config class, and where it does not say how large the model is."""
    valid = [*known, *(["rope_theta"] if "rope_parameters" in known else [])]
    for key in given:
        if key in SET_HERE:
            raise Misfit(key, "is set by Seedbed, from the tokenizer and the run; expected no such key")
        if key not in valid:
            alias = kind.attribute_map.get(key)
            raise Misfit(key, f"unknown key{f'; did you mean {alias!r}?' if alias in valid else choices(key, valid)}")
    for name in filter(None, (own_name(kind, name) for name in SIZES)):
        if name not in given and known[name].default is not None:
            raise Misfit(name, "missing")
    if not isinstance(given.get("rope_theta", 1), int | float):
        raise Misfit("rope_theta", f"expected a number; found {given['rope_theta']!r}")


def check_dropout(given: dict) -> None:
    for key, value in given.items():
        if DROPOUT.fullmatch(key) and isinstance(value, float) and not 0 <= value <= 1:
            raise Misfit(key, f"found {value}, expected a share from 0 to 1")


def fitting(field: Field, value: Any) -> Any:
    """A number as the config class wants it: 1 is 1.0 where that is a float."""
    kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
    if type(value) is int and float in kinds and (int not in kinds or isinstance(field.default, float)):
        return float(value)
    if type(value) is float and value.is_integer() and int in kinds and float not in kinds:
        return int(value)
    return value


def check_sizes(kind: type[PreTrainedConfig], given: dict) -> None:
    """Raise Misfit where a size is not positive, or does not divide into heads as attention needs it."""

    def said(name: str) -> tuple[str | None, Any]:
        own = own_name(kind, name)
        return own, given.get(own, getattr(kind, own)) if own else None

    for name in (*SIZES, *OTHER_SIZES):
        own, value = said(name)
        if type(value) is int and value < 1:
            raise Misfit(own, f"expected a number of at least 1; found {value}")
        if type(value) is int and value > (most := LARGEST.get(name, WIDEST)):
            raise Misfit(own, f"expected at most {most}; found {value}")
    for key, value in given.items():
        if (count := max(repeats(value), default=0)) > MOST_LAYERS:
            raise Misfit(key, f"expected each at most {MOST_LAYERS} times; found {count}")
    (width_key, width), (heads_key, heads), (kv_key, kv) = map(
        said, ("hidden_size", "num_attention_heads", "num_key_value_heads")
    )
    head_key, head = said("head_dim")
    rotary = own_name(kind, "rope_parameters") is not None
    if type(width) is int and type(heads) is int and head is None:
        check_division(width_key, width, heads)
        if rotary:
            check_division(width_key, width, 2 * heads)  # RoPE turns pairs
    elif rotary and type(head) is int and head % 2:
        raise Misfit(head_key, f"head_dim {head}: RoPE turns pairs; expected an even number")
    if type(heads) is int and type(kv) is int and heads % kv:
        raise Misfit(kv_key, f"{heads} {heads_key} do not divide into groups of {kv}; nearest: {nearest(kv, heads)}")


def repeats(value: Any, inside: bool = False) -> Iterator[int]:
    """Whole numbers in lists inside of lists: [[[global], 12]] repeats a kind of layer."""
    for inner in value if isinstance(value, list) else ():
        yield from repeats(inner, inside=True)
        if inside and type(inner) is int:
            yield inner


def check_division(key: str, number: int, heads: int) -> None:
    if number % heads:
        below = number // heads * heads
        near = " or ".join(str(n) for n in (below, below + heads) if n)
        raise Misfit(key, f"{key} {number} does not divide into {heads} heads; nearest that do: {near}")


def nearest(number: int, whole: int) -> int:
    """The divisor of `whole` that is nearest to a number."""
    return min(divisors(whole), key=lambda n: abs(n - number))


def special_tokens(kind: type[PreTrainedConfig], eos: int) -> dict:
    """Documents end with EOS; there is no other special token, unless a config class wants one."""
    wanted = {field.name: field.type for field in fields(kind)}
    none = {key: None if type(None) in get_args(wanted.get(key)) else eos for key in ("bos_token_id", "pad_token_id")}
    return none | {"eos_token_id": eos}


def refused(error: Exception, given: dict) -> Misfit:
    """What transformers says of some fields, as one line, at the field that it names."""
    told = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):  # a name that none of its tables has
        wrong = [key for key, value in given.items() if value == error.args[0]]
        return Misfit(wrong[0] if len(wrong) == 1 else None, f"found {told}, which transformers does not know")
    field = re.search(r"for field '(\w+)'", told)
    named = [field[1]] if field else [key for key in given if re.search(rf"\b{re.escape(key)}\b", told)]
    key = named[0] if len(named) == 1 else None
    reason = told.rpartition(" Errors:")[0] or told
    reason = re.sub(r"<class '(\w+)'>", r"\1", reason.split("Error: ", 1)[-1])
    return Misfit(key, reason.removeprefix(f"Field {key!r} "))
