"""The model against a plain one on [B, n, width]; what must not be seen; sizes."""

import math

import pytest
import torch
import torch.nn.functional as F
from support import drawn_thinker_spec, shaken_thinker, thinker_spec
from torch import Tensor

from seedbed.objectives.thinker.config import ThinkerRun
from seedbed.objectives.thinker.flow import Row, always, drawn, plain, planned
from seedbed.objectives.thinker.geometry import Geometry
from seedbed.objectives.thinker.model import Question, Thinker, Thought

CLOSE = {"atol": 3e-5, "rtol": 1e-4}
BATCH, LENGTH, SYMBOLS = 3, 6, 8
SEEDS = range(60)


def question(thinker: Thinker, seed: int = 0, padded: bool = False, length: int = LENGTH) -> Question:
    """A batch of random symbols, of several lengths where it is `padded`."""
    generator = torch.Generator().manual_seed(seed)
    symbols, previous = torch.randint(SYMBOLS, (2, length, BATCH), generator=generator)
    previous[0] = thinker.start
    hidden = torch.arange(length)[:, None] >= torch.tensor([length, 2, 4]) if padded else None
    return Question(symbols, hidden, length, previous if thinker.answers else None, torch.arange(length))


def rows_of(spec: dict) -> list[Row]:
    """Those of the loop without a plan."""
    return plain(spec["n_step"][-1], spec["model"]["read_step"], static=spec["model"]["static_memory"] > 0)


def most(spec: dict) -> int | None:
    return spec["n_latent"] and spec["n_latent"][-1]


# --- a plain implementation -------------------------------------------------------------------------------------------


class Plain:
    """The loop as one would write it down first: nothing is kept between steps but latents."""

    def __init__(self, thinker: Thinker) -> None:
        self.weights, self.model = dict(thinker.named_parameters()), thinker.model

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def heads(self, x: Tensor, order: Tensor | None = None) -> Tensor:
        """[B, heads, n, width of one], turned by its positions where they are rotary."""
        x = x.view(*x.shape[:2], self.model["num_attention_heads"], -1).transpose(1, 2)
        if order is None or self.model["positions"] != "rope":
            return x
        half = x.shape[-1] // 2
        angles = order[:, None] * torch.tensor([10_000 ** (-pair / half) for pair in range(half)])
        turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([turned.real, turned.imag], -1)

    def layer(self, name: str, x: Tensor, order: Tensor | None, memory: list[tuple]) -> Tensor:
        """`memory` has (vectors, their order or None, which are real or None, whether later ones alone see them)."""
        pre = self.model["norm"] == "pre"
        q = self.heads(self.linear(f"{name}.query", self.norm(f"{name}.norm_attention", x) if pre else x), order)
        keys, values, masks = [], [], []
        for vectors, places, real, causal in memory:
            vectors = self.norm(f"{name}.norm_memory", vectors) if pre else vectors
            keys.append(self.heads(self.linear(f"{name}.key", vectors), places))
            values.append(self.heads(self.linear(f"{name}.value", vectors)))
            mask = torch.ones(len(x), x.shape[1], vectors.shape[1], dtype=torch.bool)
            if real is not None:
                mask &= real[:, None]
            if order is not None and places is not None:
                apart = places[None] - order[:, None]
                mask &= (apart <= 0) | torch.tensor(not causal)
                mask &= apart.abs() <= (self.model["window"] or math.inf)
            masks.append(mask)
        k, v, mask = torch.cat(keys, 2), torch.cat(values, 2), torch.cat(masks, 2)
        scores = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).masked_fill(~mask[:, None], -1e9)
        found = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + self.linear(f"{name}.out", found)
        x = x if pre else self.norm(f"{name}.norm_attention", x)
        inner = self.linear(f"{name}.up", self.norm(f"{name}.norm_network", x) if pre else x).relu()
        x = x + self.linear(f"{name}.down", inner)
        return x if pre else self.norm(f"{name}.norm_network", x)

    def places(self, table: str, count: int) -> Tensor | float:
        if self.model["positions"] == "learned":
            return self.weights[f"{table}.weight"][:count]
        if self.model["positions"] != "sinusoidal":
            return 0.0
        width = self.model["hidden_size"]
        angles = [[place * 10_000 ** (-2 * pair / width) for pair in range(width // 2)] for place in range(count)]
        angles = torch.tensor(angles)
        return torch.cat([angles.sin(), angles.cos()], 1) * self.model["embedding_range"]

    def queries(self, asked: Question) -> Tensor:
        start = 0.0 if self.model["positions"] == "learned" else self.weights["queries.weight"]
        found = (start + self.places("queries", asked.outputs)).expand(BATCH, asked.outputs, -1)
        return found if asked.previous is None else found + self.weights["answers.weight"][asked.previous.T]

    def scores(self, asked: Question, n_latent: int | None, rows: list[Row], before: int = 0) -> list[Tensor]:
        """[B, m, symbols] of each answer; the first steps, `before` of them, without gradient."""
        model, order = self.model, torch.arange(asked.outputs)
        real = None if asked.hidden is None else ~asked.hidden.T
        layers = [f"layers.{number}" for number in range(model["num_layers"])]
        count = len(asked.symbols)
        read = self.weights["symbols.weight"][asked.symbols.T] + self.places("input_positions", count)
        full, by_position = model["decoding"] == "full_ar", model["latents"] == "position"
        if full:
            latents = self.queries(asked)
        elif by_position:
            latents = (self.weights["latents.weight"] + self.places("input_positions", count)).expand(BATCH, -1, -1)
            latents = latents.expand(-1, count, -1)
        else:
            latents = self.weights["latents.weight"][:n_latent].expand(BATCH, -1, -1)
        own = torch.arange(latents.shape[1]) if full or by_position else None
        past, found = [latents] if full else [], []

        def memory(row: Row, written: bool) -> list[tuple]:
            items = [(read, torch.arange(count), real, False)] if row.read_input else []
            kept = past[-(model["n_memory"] or len(past) + 1) :] if row.mem_lookup else past[-1:] if written else []
            items += [(one, own, real if by_position else None, full) for one in kept]
            if row.static_mem_lookup:
                items.append((self.weights["static.weight"].expand(BATCH, -1, -1), None, None, False))
            return items

        for step, row in enumerate(rows):
            with torch.set_grad_enabled(step >= before):
                for name in layers:
                    latents = self.layer(name, latents, own, memory(row, False))
            if row.mem_write:
                past.append(latents)
            if not row.output:
                continue
            outputs = latents if full else self.queries(asked)
            for _ in range(0 if full else model["output_step"]):
                for number in range(model["output_layers"]):
                    items = memory(row, row.mem_write)
                    items += [(outputs, order, None, True)] if asked.previous is not None else []
                    outputs = self.layer(f"output_layers.{number}", outputs, order, items)
            outputs = self.norm("norm", outputs) if model["norm"] == "pre" else outputs
            head = "symbols" if model["tie_word_embeddings"] else "head"
            found.append(F.linear(outputs, self.weights[f"{head}.weight"], self.weights["head.bias"]))
        return found


def written_down(spec: dict) -> list[Row]:
    """The loop: memory at every step, the input at the first ones, an answer after the last."""
    steps, static = spec["n_step"][-1], spec["model"]["static_memory"] > 0
    reads = spec["model"]["read_step"] or steps
    return [
        Row(read_input=n < reads, mem_lookup=True, mem_write=True, static_mem_lookup=static, output=n == steps - 1)
        for n in range(steps)
    ]


def assert_same(thinker: Thinker, asked: Question, n_latent: int | None, ours: list[Row], theirs: list[Row]) -> None:
    found, expected = thinker(asked, ours, n_latent), Plain(thinker).scores(asked, n_latent, theirs)
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one.permute(2, 1, 0), two, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_loop_is_the_plain_one(seed: int) -> None:
    spec = drawn_thinker_spec(seed)
    thinker = shaken_thinker(spec)
    for padded in (False, True):
        assert_same(thinker, question(thinker, seed, padded), most(spec), rows_of(spec), written_down(spec))


@pytest.mark.parametrize("seed", SEEDS)
def test_any_plan_is_followed(seed: int) -> None:
    spec = drawn_thinker_spec(seed, read_step=None, decoding=("parallel", "output_ar")[seed % 2])
    thinker = shaken_thinker(spec)
    rows = drawn(4, seed, spec["model"]["static_memory"] > 0)
    assert_same(thinker, question(thinker, seed, padded=True), most(spec), rows, rows)


@pytest.mark.parametrize("seed", range(12))
def test_a_plan_that_says_what_the_loop_does_changes_nothing(seed: int) -> None:
    spec = drawn_thinker_spec(seed, decoding=("parallel", "output_ar")[seed % 2])
    thinker, static = shaken_thinker(spec), spec["model"]["static_memory"] > 0
    asked = question(thinker, padded=True)
    (recalled,) = thinker(asked, plain(3, static=static), most(spec))
    every = thinker(asked, always(3, static), most(spec))
    assert len(every) == 3 and torch.equal(every[-1], recalled)
    for read_step in (1, 2):
        flags = ("read_input", "mem_lookup", "mem_write", "static_mem_lookup", "output")
        table = [dict(zip(flags, (step < read_step, True, True, static, step == 2), strict=True)) for step in range(3)]
        (found,) = thinker(asked, planned(table, 3, 0, static, None, False), most(spec))
        assert torch.equal(found, thinker(asked, plain(3, read_step, static=static), most(spec))[0])
        assert not torch.equal(found, recalled)


@pytest.mark.parametrize("seed", range(30))
def test_the_first_steps_of_a_progressive_loss_have_no_gradient(seed: int) -> None:
    spec = drawn_thinker_spec(seed)
    thinker = shaken_thinker(spec)
    asked, rows = question(thinker, seed, padded=True), plain(3, static=spec["model"]["static_memory"] > 0)
    for before in (0, 1, 2):
        gradients = []
        for scores in (
            Thought(thinker, asked, most(spec)).after(before, rows).permute(2, 1, 0),
            Plain(thinker).scores(asked, most(spec), rows, before)[-1],
        ):
            thinker.zero_grad()
            scores[~asked.hidden.T].square().sum().backward()
            gradients.append({name: weight.grad for name, weight in thinker.named_parameters()})
        largest = max(float(gradient.abs().max()) for gradient in gradients[1].values() if gradient is not None)
        for name, expected in gradients[1].items():
            if expected is None:
                assert gradients[0][name] is None or not gradients[0][name].any(), name
            else:
                torch.testing.assert_close(gradients[0][name], expected, atol=1e-4 * largest, rtol=1e-3, msg=name)


# --- what must not be seen --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoding", ["output_ar", "full_ar"])
@pytest.mark.parametrize("seed", range(20))
def test_an_answer_does_not_see_itself_nor_those_after_it(seed: int, decoding: str) -> None:
    spec = drawn_thinker_spec(seed, decoding=decoding)
    thinker = shaken_thinker(spec)
    plans = [rows_of(spec)] if decoding == "full_ar" else [rows_of(spec), drawn(3, seed), always(2)]
    for rows in plans:
        asked = question(thinker, seed)
        before = thinker(asked, rows, most(spec))[-1]
        for place in range(LENGTH - 1):
            changed = question(thinker, seed)
            changed.previous[place + 1] = (changed.previous[place + 1] + 1) % SYMBOLS  # the answer at `place`
            after = thinker(changed, rows, most(spec))[-1]
            assert torch.equal(after[:, : place + 1], before[:, : place + 1])
            assert not torch.equal(after[:, place + 1], before[:, place + 1])


@pytest.mark.parametrize("seed", range(20))
def test_later_answers_see_all_before_them(seed: int) -> None:
    spec = drawn_thinker_spec(seed, decoding=("output_ar", "full_ar")[seed % 2], window=None, n_memory=None)
    thinker = shaken_thinker(spec)
    asked, changed = question(thinker), question(thinker)
    changed.previous[1] = (changed.previous[1] + 1) % SYMBOLS
    one, two = (thinker(each, rows_of(spec), most(spec))[-1] for each in (asked, changed))
    assert ((one - two).abs().amax((0, 2))[1:] > 0).all()


@pytest.mark.parametrize("seed", range(30))
def test_padding_changes_nothing(seed: int) -> None:
    spec = drawn_thinker_spec(seed, decoding=("parallel", "output_ar")[seed % 2])
    thinker = shaken_thinker(spec)
    asked, changed = question(thinker, seed, padded=True), question(thinker, seed, padded=True)
    changed.symbols[asked.hidden] = (changed.symbols[asked.hidden] + 3) % SYMBOLS
    (before,), (after,) = (thinker(each, rows_of(spec), most(spec)) for each in (asked, changed))
    real = ~asked.hidden if spec["model"]["window"] else torch.ones_like(asked.hidden)
    torch.testing.assert_close(after[:, real], before[:, real])
    cut = Question(
        asked.symbols[:4, 2:], None, 4, None if asked.previous is None else asked.previous[:4, 2:], asked.places
    )
    (alone,) = thinker(cut, rows_of(spec), most(spec))
    torch.testing.assert_close(before[:, :4, 2:], alone, **CLOSE)


WINDOWED = {"latents": "position", "window": 2, "positions": "rope", "num_layers": 2}


@pytest.mark.parametrize("n_step", [1, 2, 3])
def test_an_answer_depends_on_symbols_within_reach(n_step: int) -> None:
    thinker = shaken_thinker(thinker_spec(model=WINDOWED, n_latent=None, length=20))
    reach, rows = 2 * (n_step + 1), plain(n_step)
    asked, changed = question(thinker, length=20), question(thinker, length=20)
    changed.symbols[10] = (changed.symbols[10] + 1) % SYMBOLS
    one, two = (thinker(each, rows, None)[0] for each in (asked, changed))
    differ = (one - two).abs().amax((0, 2)) > 1e-6
    assert differ.tolist() == [abs(place - 10) <= reach for place in range(20)]


@pytest.mark.parametrize("positions", ["rope", "none"])
def test_an_answer_does_not_depend_on_where_its_surroundings_are(positions: str) -> None:
    thinker = shaken_thinker(thinker_spec(model=WINDOWED | {"positions": positions}, n_latent=None, length=40))
    reach = 2 * 3
    asked = question(thinker, length=40)
    moved = question(thinker, seed=1, length=40)
    moved.symbols[20:36] = asked.symbols[10:26]
    one, two = (thinker(each, plain(2), None)[0] for each in (asked, moved))
    inside = slice(10 + reach, 26 - reach), slice(20 + reach, 36 - reach)
    torch.testing.assert_close(one[:, inside[0]], two[:, inside[1]], **CLOSE)
    assert (one[:, 10] - two[:, 20]).abs().max() > 1e-3


# --- sizes, and what training adds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_the_weights_are_counted_before_there_are_any(seed: int) -> None:
    changes = [{}, {"position_range": 30}, {"positions": "random", "position_range": 9}, {"embedding_range": 0.1}]
    spec = drawn_thinker_spec(seed, **changes[seed % 4])
    if spec["n_latent"] and seed % 3 == 0:
        spec["model"]["max_latent"] = 11
    if seed % 5 == 0 and not spec["model"]["tie_word_embeddings"]:
        spec["task"] = {"name": "addition", "base": 10, "largest": None, "width": ("fixed", "variable")[seed % 2]}
        spec["model"]["position_range"] = None if spec["model"]["positions"] != "random" else 20
    geometry = Geometry.of(spec)
    counted = sum(weight.numel() for weight in Thinker(geometry, spec["model"]).parameters())
    assert geometry.parameters == counted


def test_tables_have_the_rows_that_are_asked_for() -> None:
    addition = {"task": {"name": "addition", "base": 10, "width": "variable"}, "length": 3}
    own = {"positions": "learned"}
    assert rows(own) == (6, 6, 3)
    assert rows(own, **addition) == (8, 5, 3)
    assert rows(own | {"position_range": 20, "max_latent": 9}, **addition) == (20, 20, 9)
    assert rows({"positions": "random", "position_range": 20}) == (20, 20, 3)
    assert rows({"positions": "rope", "position_range": 20}) == (0, 0, 3)
    assert rows({"latents": "position"}, n_latent=None) == (6, 6, 1)
    assert rows({"decoding": "full_ar"}, n_latent=None) == (6, 6, 0)
    assert rows({}, n_latent=[2, 7, 4]) == (6, 6, 7)


def rows(model: dict, **changes: object) -> tuple[int, int, int]:
    found = Geometry.of(thinker_spec(model=model, **changes))
    return found.input_positions, found.output_positions, found.latents


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [({}, 9_632), ({"tied": False}, 10_144), ({"width": 32, "inner": 128}, 31_520), ({"pre": False}, 9_536)],
    ids=str,
)
def test_models_of_the_log_have_their_sizes(changes: dict, parameters: int) -> None:
    sizes = {"inputs": 32, "outputs": 32, "width": 16, "heads": 8, "inner": 64, "layers": 1, "output_layers": 1}
    sizes |= {"input_positions": 48, "output_positions": 40, "latents": 64, "static": 0}
    geometry = Geometry(**sizes | {"pre": True, "previous": False, "tied": True} | changes)
    model = ThinkerRun.model_fields["model"].default.model_dump()
    assert geometry.parameters == parameters
    assert sum(weight.numel() for weight in Thinker(geometry, model).parameters()) == parameters


@pytest.mark.parametrize("key", ["dropout", "latent_noise"])
@pytest.mark.parametrize("latents", ["learned", "position"])
def test_noise_is_for_training_alone(key: str, latents: str) -> None:
    spec = thinker_spec(model={key: 0.2, "latents": latents}, n_latent=None if latents == "position" else 3)
    thinker = shaken_thinker(spec)
    asked = question(thinker)
    same = [thinker(asked, plain(2), most(spec))[0] for _ in range(2)]
    assert torch.equal(*same)
    thinker.train()
    other = [thinker(asked, plain(2), most(spec))[0] for _ in range(2)]
    assert not torch.equal(*other)
    assert not torch.equal(same[0], other[0])


@pytest.mark.parametrize("seed", range(12))
def test_gradient_checkpointing_changes_no_gradient(seed: int) -> None:
    spec = drawn_thinker_spec(seed)
    thinker = shaken_thinker(spec)
    found = []
    for checkpointed in (False, True):
        for layer in (*thinker.layers, *thinker.output_layers):
            layer.checkpointed = checkpointed
        thinker.zero_grad()
        thinker(question(thinker, padded=True), rows_of(spec), most(spec))[-1].square().sum().backward()
        found.append([weight.grad for weight in thinker.parameters() if weight.grad is not None])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_every_random_plan_trains_all_weights() -> None:
    for seed in range(100):
        spec = drawn_thinker_spec(seed, read_step=None, decoding=("parallel", "output_ar")[seed % 2])
        thinker = shaken_thinker(spec)
        rows = drawn(1 + seed % 4, seed, spec["model"]["static_memory"] > 0)
        thinker(question(thinker), rows, most(spec))[-1].square().sum().backward()
        assert not [name for name, weight in thinker.named_parameters() if weight.grad is None]


def test_every_weight_is_trained_and_outputs_of_a_batch_do_not_mix() -> None:
    spec = thinker_spec(model={"static_memory": 2, "decoding": "output_ar", "num_layers": 2})
    thinker = shaken_thinker(spec)
    asked = question(thinker)
    (scores,) = thinker(asked, plain(2, static=True), 3)
    scores[:, :, 0].square().sum().backward()
    assert not [name for name, weight in thinker.named_parameters() if weight.grad is None or not weight.grad.any()]
    changed = question(thinker)
    changed.symbols[:, 1] = (changed.symbols[:, 1] + 1) % SYMBOLS
    (other,) = thinker(changed, plain(2, static=True), 3)
    assert torch.equal(other[:, :, [0, 2]], scores[:, :, [0, 2]]) and not torch.equal(other[:, :, 1], scores[:, :, 1])
