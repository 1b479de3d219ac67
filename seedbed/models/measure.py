"""Facts of models from the real ones on the meta device, where nothing is allocated.

python -m seedbed.models.measure reads a list of models as JSON and writes the facts of each (`seedbed.models.facts`).
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count

import torch
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.modules.module import register_module_parameter_registration_hook as register_parameter_hook
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig
from transformers.initialization import no_init_weights

from seedbed.models import predictions, recurrence
from seedbed.models.causal_lm import linear_layers
from seedbed.models.facts import Facts, Misfit, without_numbers
from seedbed.models.families import config_class, config_of, learned_positions, position_field, refused

MOST_MODULES = 20_000  # and parameters of one model
REPEATS = re.compile("layer|expert|block|depth")  # in names of fields that say how often something is there
VOCABULARY, POSITIONS = 1024, 64  # any: what they add is counted apart


def measure(asked: dict) -> dict:
    """The facts of one model as plain JSON, or its `problem` and the `key` at fault."""
    try:
        return asdict(facts_of_config(asked["config"]) if "config" in asked else facts_of_fields(asked))
    except Misfit as misfit:
        return {"key": misfit.key, "problem": misfit.problem}
    except Exception as error:  # configs and modelling files raise what they like at sizes that do not go together
        return {"key": None, "problem": refused(error, asked).problem}


def facts_of_fields(model: dict) -> Facts:
    """Facts of a new model. Raises Misfit where it cannot be made, or is none that Seedbed trains."""
    place = position_field(config_class(model["family"]))
    stated = model.get(place) if place else None

    def made(vocabulary: int, positions: int | None = None) -> torch.nn.Module:
        sized = model | ({place: positions} if positions else {})
        config = config_of(sized, vocabulary, eos=0, positions=POSITIONS)
        return on_meta(config, {key: value for key, value in model.items() if key not in ("family", "key_norm")})

    base = made(VOCABULARY)
    check_architecture(base)
    own = getattr(base.config, place) if place else 0
    learned = learned_positions(base.config) is not None
    per_token = (weights(made(2 * VOCABULARY)) - weights(base)) // VOCABULARY
    per_position = (weights(made(VOCABULARY, 2 * own)) - weights(base)) // own if learned else 0
    blocks = weights(base) - VOCABULARY * per_token - own * per_position
    return described(base, blocks, per_token, per_position, stated)


def facts_of_config(fields: dict) -> Facts:
    """Facts of a model from elsewhere, its embeddings counted with the blocks."""
    try:
        config = CONFIG_MAPPING[fields["model_type"]].from_dict(fields)
    except Exception as error:  # each config class raises its own
        raise refused(error, {}) from None
    model = on_meta(config.get_text_config(), {})
    return described(model, weights(model), 0, 0, learned_positions(model.config))


def described(model: torch.nn.Module, blocks: int, per_token: int, per_position: int, stated: int | None) -> Facts:
    config = model.config
    return Facts(
        blocks,
        per_token,
        per_position,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        learned=learned_positions(config) is not None,
        positions=stated,
        no_recurrence=recurrence.misfit(model),
        linear=sorted({without_numbers(name) for name in linear_layers(model)}),
    )


def on_meta(config: PreTrainedConfig, given: dict) -> torch.nn.Module:
    try:
        with torch.device("meta"), no_init_weights(), counted(given):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
        model.tie_weights()  # which is part of their initialisation
        return model
    except Misfit:
        raise
    except Exception as error:  # each modelling file raises its own
        raise refused(error, given) from None


@contextmanager
def counted(given: dict) -> Iterator[None]:
    """Raise Misfit where a model has more modules than can be laid out in a moment, at the field that asks for them."""
    numbers = count(1)

    def look(*_: object) -> None:
        if next(numbers) > MOST_MODULES:
            sizes = {key: value for key, value in given.items() if type(value) is int and REPEATS.search(key)}
            key = max(sizes, key=sizes.get, default=None)
            found = f"; found {sizes[key]}" if key else ""
            raise Misfit(key, f"makes more than {MOST_MODULES} modules; expected fewer layers or experts{found}")

    hooks = [register(look) for register in (register_module_module_registration_hook, register_parameter_hook)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def weights(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def check_architecture(model: torch.nn.Module) -> None:
    """Raise Misfit for a model that sees what it has to predict, or whose loss is not that of its output matrix."""
    family, head = model.config.model_type, model.get_output_embeddings()
    if any(getattr(part, "is_causal", True) is False for part in model.modules()):
        raise Misfit("family", f"attention of {family!r} is not causal; expected a decoder, such as llama or gpt2")
    if getattr(head, "bias", None) is not None:
        raise Misfit("family", f"the output head of {family!r} has a bias, which losses here do not know")
    if problem := predictions.misfit(model):
        raise Misfit(None, f"{family} {problem}")


def main(read: Callable[[], str] = sys.stdin.read) -> None:
    print(json.dumps([measure(model) for model in json.loads(read())]))


if __name__ == "__main__":
    main()
