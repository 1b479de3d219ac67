"""What comes from elsewhere is data: no code of it runs, nothing is fetched for it, nothing of it is made up."""

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import ROOT, saved_model
from transformers import AutoConfig, AutoModelForCausalLM

from seedbed.data.tokenizer import build_tokenizer
from seedbed.errors import SeedbedError
from seedbed.files import read_json, write_json
from seedbed.models.causal_lm import load_model
from seedbed.models.external import adopt_model
from seedbed.models.foreign import check_directory, check_weights, read_config, take
from seedbed.objectives.lm.subject import CausalLM

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def changed(folder: Path, file: str, **keys: object) -> None:
    path = folder / file
    write_json(path, (read_json(path) if path.exists() else {}) | keys)


def refused(call: Callable[[], object], told: str) -> None:
    """Check that a call ends in one line that has this text."""
    with pytest.raises(SeedbedError) as error:
        call()
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture
def source(model_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model_folder, tmp_path / "source")


# --- code ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "keys", "told"),
    [
        ("config.json", {"auto_map": {"AutoConfig": "own.Config"}}, "auto_map names code of its own ('own.Config')"),
        ("config.json", {"auto_map": 5}, "auto_map names code of its own (5)"),
        ("config.json", {"a": [{"b": {"auto_map": {"AutoModel": "x--own.M"}}}]}, "code of its own ('x--own.M')"),
        ("config.5.0.0.json", {"auto_map": {"AutoConfig": "own.Config"}}, "code of its own ('own.Config')"),
        ("tokenizer_config.json", {"auto_map": ["own.Slow", None]}, "code of its own ('own.Slow')"),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "own.P"}}, "code of its own ('own.P')"),
        ("generation_config.json", {"custom_generate": "org/x"}, "custom_generate asks for code of its own"),
        ("config.json", {"trust_remote_code": True}, "trust_remote_code asks for code of its own"),
        ("config.json", {"_attn_implementation": "org/x:f"}, "_attn_implementation names 'org/x:f'"),
        ("config.json", {"attn_implementation": {"": "sdpa", "text_config": "org/x"}}, "attn_implementation names"),
        ("config.json", {"text_config": {"attn_implementation": "flash_attention_2"}}, "expected eager or sdpa"),
        ("config.json", {"_experts_implementation": "sonicmoe"}, "_experts_implementation names 'sonicmoe'"),
        ("config.json", {"kernel_config": {"kernel_mapping": {}}}, "kernel_config asks for code of its own"),
        ("config.json", {"quantization_config": {"quant_method": "fp8"}}, "quantization_config: found 'fp8'"),
        ("config.json", {"configuration_files": ["../config.5.0.0.json"]}, "names '../config.5.0.0.json'"),
        ("config.json", {"transformers_weights": "adapter_model.bin"}, "transformers_weights names"),
        ("tokenizer_config.json", {"fast_tokenizer_files": ["/tokenizer.5.0.0.json"]}, "fast_tokenizer_files names"),
        ("tokenizer_config.json", {"vocab": "/etc/passwd"}, "vocab names '/etc/passwd'"),
        ("tokenizer_config.json", {"tokenizer_class": "AutoModel"}, "tokenizer_class names 'AutoModel'"),
        ("tokenizer_config.json", {"tokenizer_class": "RagTokenizer"}, "tokenizer_class names 'RagTokenizer'"),
        ("tokenizer_config.json", {"sp_model_kwargs": {"model_file": "m"}}, "sp_model_kwargs: model_file names 'm'"),
        ("tokenizer_config.json", {"sp_model_kwargs": {"model_proto": "m"}}, "sp_model_kwargs: model_proto names 'm'"),
        ("tokenizer_config.json", {"mecab_kwargs": {"mecab_option": "-d /x"}}, "mecab_kwargs: mecab_option names"),
        ("tokenizer_config.json", {"jumanpp_kwargs": {"model": ["/x"]}}, "jumanpp_kwargs: model names '/x'"),
        ("tokenizer_config.json", {"sudachi_kwargs": {"sudachi_dict_type": "/x"}}, "sudachi_dict_type names '/x'"),
        ("adapter_config.json", {"base_model_name_or_path": "org/x"}, "it is an adapter of another model"),
    ],
)
def test_what_would_need_code_is_refused_by_file_and_key(source: Path, file: str, keys: dict, told: str) -> None:
    changed(source, file, **keys)
    spec = {"from": str(source), "revision": None}
    refused(lambda: adopt_model(spec, source.parent / "adopted"), f"model {source}: {file}: ")
    refused(lambda: adopt_model(spec, source.parent / "adopted"), told)
    refused(lambda: CausalLM.of_model(source), told)
    refused(lambda: load_model(source), told)
    assert not (source.parent / "adopted").exists()


def test_what_is_plain_passes(source: Path) -> None:
    changed(source, "config.json", auto_map={}, attn_implementation="eager", quantization_config=None, hidden_size=32)
    changed(source, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", vocab=["a/b"])
    changed(source, "tokenizer_config.json", sp_model_kwargs={"enable_sampling": True, "alpha": 0.1})
    changed(source, "tokenizer_config.json", mecab_kwargs={"mecab_dic": "unidic_lite", "mecab_option": None})
    changed(source, "notes.json", text="auto_map")
    (source / "trainer_state.json").write_text("{cut")  # which transformers does not read
    check_directory(source)
    check_weights(source)
    load_model(source)


def test_a_tokenizer_whose_model_has_code_is_adopted(source: Path) -> None:
    spec = {"from": str(source), "revision": None, "eos_token": None}
    changed(source, "config.json", auto_map={"AutoConfig": "own.Config"}, model_type="own")
    build_tokenizer(spec, None, source.parent / "adopted")
    changed(source, "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Slow", None]})
    refused(
        lambda: build_tokenizer(spec, None, source.parent / "x"),
        "tokenizer_config.json: auto_map names code of its own",
    )


def test_a_tokenizer_of_the_hub_is_fetched_without_code(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def download(name: str, local_dir: Path, **options: Any) -> None:
        asked.update(options, name=name)
        shutil.copytree(source, local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    spec = {"from": "org/x", "revision": "abc", "eos_token": None}
    build_tokenizer(spec, None, source.parent / "adopted")
    patterns = {"allow_patterns": ["*.json", "*.model", "*.txt"], "ignore_patterns": ["*/*"]}
    assert asked == {"name": "org/x", "revision": "abc"} | patterns
    changed(source, "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Slow", None]})
    refused(
        lambda: build_tokenizer(spec, None, source.parent / "x"), "tokenizer org/x: tokenizer_config.json: auto_map"
    )


def test_a_plan_refuses_code(source: Path) -> None:
    assert read_config(source)["model_type"] == "llama"
    changed(source, "config.json", auto_map={"AutoConfig": "own.Config"})
    refused(lambda: read_config(source), f"{source}: config.json: auto_map")


def test_pickles_are_never_read(source: Path, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    (source / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    (source / WEIGHTS).unlink()
    refused(lambda: load_model(source), "model.safetensors")
    write_json(source / INDEX, {"metadata": {}, "weight_map": {"model.norm.weight": "pytorch_model.bin"}})
    refused(lambda: load_model(source), "'model.norm.weight' is in 'pytorch_model.bin'")
    assert not (tmp_path / "ran").exists()


FAKE_KERNELS = """
import sys
def fetched(*arguments, **options):
    print("fetched", arguments, file=sys.stderr)
    raise SystemExit("fetched")
class Stub:
    def __init__(self, *arguments, **options): pass
    def __class_getitem__(cls, key): return cls
get_kernel = fetched
def __getattr__(name):
    if name.startswith("__"): raise AttributeError(name)
    return fetched if name.startswith("use_") else Stub
"""
LOADING = """
import sys
from pathlib import Path
import seedbed.models.measure as measure
import transformers.models.rwkv.modeling_rwkv as rwkv
from transformers.utils import is_kernels_available
from seedbed.models.causal_lm import load_model
sizes = {"hidden_size": 16, "num_hidden_layers": 1}
for family in ("mamba", "falcon_mamba"):
    assert measure.measure({"config": {"model_type": family, "state_size": 4, "vocab_size": 50} | sizes})["layers"] == 1
load_model(Path(sys.argv[1]))
try:
    rwkv.load_wkv_cuda_kernel(8)
except ImportError:
    print("none")
print(is_kernels_available())
"""


def test_kernels_are_never_fetched_even_where_their_package_is(tokenizer: Path, tmp_path: Path) -> None:
    mamba = saved_model(tokenizer, tmp_path / "mamba", "mamba")
    (tmp_path / "site" / "kernels").mkdir(parents=True)
    (tmp_path / "site" / "kernels" / "__init__.py").write_text(FAKE_KERNELS)
    (tmp_path / "site" / "kernels-0.18.2.dist-info").mkdir()
    (tmp_path / "site" / "kernels-0.18.2.dist-info" / "METADATA").write_text("Name: kernels\nVersion: 0.18.2\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), str(ROOT)))}
    command = [sys.executable, "-c", LOADING, str(mamba)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-2:] == ["none", "False"]
    assert "fetched" not in done.stderr


# --- files -----------------------------------------------------------------------------------------------------------


def no_file(path: Path, kind: str) -> None:
    kept = path.rename(path.parent.parent / f"kept-{path.name}")
    match kind:
        case "a symbolic link":
            path.symlink_to(kept)
        case "a pipe":
            os.mkfifo(path)
        case "a directory":
            path.mkdir()
        case "a socket":
            socket.socket(socket.AF_UNIX).bind(str(path))


@pytest.mark.parametrize("kind", ["a symbolic link", "a pipe", "a directory", "a socket"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS])
def test_regular_files_alone_are_adopted(
    source: Path, name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path("source")  # short enough for a socket
    no_file(source / name, kind)
    told = "cannot be read" if kind == "a socket" else f"found {kind}, expected a regular file"
    spec = {"from": str(source), "revision": None}
    refused(lambda: adopt_model(spec, Path("adopted")), f"model source: {name}: {told}")
    if name != WEIGHTS:
        spec |= {"eos_token": None}
        refused(lambda: build_tokenizer(spec, None, Path("adopted")), f"tokenizer source: {name}: {told}")
    assert not Path("adopted").exists()
    if kind != "a symbolic link":
        refused(lambda: CausalLM.of_model(source), f"source: {name}: {told}")


def test_a_link_is_told_how_to_resolve(source: Path) -> None:
    no_file(source / WEIGHTS, "a symbolic link")
    refused(lambda: adopt_model({"from": str(source), "revision": None}, source.parent / "adopted"), "`cp -rL`")
    load_model(source)  # which a user may open


@pytest.mark.parametrize("linking", [True, False])
def test_files_are_linked_or_else_copied(source: Path, linking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(*arguments: object, **options: object) -> None:
        raise OSError("another file system")

    if not linking:
        monkeypatch.setattr(os, "link", impossible)
    adopt_model({"from": str(source), "revision": None}, source.parent / "adopted")
    ours, theirs = source.parent / "adopted" / WEIGHTS, source / WEIGHTS
    assert ours.samefile(theirs) == linking
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_file_that_is_replaced_meanwhile_is_told(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def replaced(path: Path, target: Path, **options: bool) -> None:
        path.unlink()
        path.symlink_to("/etc/passwd")
        link(path, target, **options)

    monkeypatch.setattr(os, "link", replaced)
    refused(lambda: take(source, source.parent / "taken", ["config.json"], "it"), "was replaced while it was taken")


def test_a_huge_config_is_refused_in_little_memory(source: Path) -> None:
    os.truncate(source / "config.json", 10**9)
    tracemalloc.start()
    try:
        refused(lambda: read_config(source), "config.json: found 1,000,000,000 bytes; expected at most 16,777,216")
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b"\xff\xfe{}", b'{"a": ', b"", b"[" * 10**5])
def test_a_damaged_config_is_told_in_one_line(source: Path, file: str, content: bytes) -> None:
    (source / file).write_bytes(content)
    refused(lambda: adopt_model({"from": str(source), "revision": None}, source.parent / "x"), f"source: {file}: ")
    refused(lambda: load_model(source), f"{source}: {file}: ")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("hidden_size", "x", "expected int, got str (value: 'x')"),
        ("hidden_size", -5, "hidden_size: found -5; expected a whole number up to 16,777,216"),
        ("hidden_size", 1e12, "hidden_size: found 1000000000000.0; expected a whole number up to"),
        ("hidden_size", float("inf"), "hidden_size: found inf; expected a whole number up to"),
        ("num_hidden_layers", 10**9, "num_hidden_layers: found 1000000000; expected a whole number up to 10,000"),
        ("model_type", ["llama"], "unhashable"),
        ("rope_parameters", 3, "expected dict, got int"),
    ],
)
def test_a_field_that_is_none_is_told_in_one_line(source: Path, key: str, value: Any, told: str) -> None:
    (source / "config.json").write_text(json.dumps(read_json(source / "config.json") | {key: value}))
    for call in (
        lambda: adopt_model({"from": str(source), "revision": None}, source.parent / "x"),
        lambda: load_model(source),
        lambda: CausalLM.of_model(source),
    ):
        refused(call, told)
        refused(call, f"{source}: config.json: ")


def test_what_a_model_does_not_know_is_told_in_one_line(source: Path) -> None:
    changed(source, "config.json", hidden_act="nonsense")
    refused(lambda: load_model(source), f"{source}: no model can be loaded: found 'nonsense', which transformers does")


PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}  # at which the tokenizers panic


@pytest.mark.parametrize("content", [b"[]", b"null", b"\xff\xfe{}", b'{"a": ', b"", {"model": 3}, PRECOMPILED])
def test_a_damaged_tokenizer_is_told_in_one_line(source: Path, content: bytes | dict) -> None:
    path = source / "tokenizer.json"
    if isinstance(content, dict):
        write_json(path, read_json(path) | ({"normalizer": content} if content is PRECOMPILED else content))
    else:
        path.write_bytes(content)
    spec = {"from": str(source), "revision": None, "eos_token": None}
    refused(lambda: adopt_model(spec, source.parent / "x"), f"model {source}: tokenizer.json: ")
    refused(lambda: build_tokenizer(spec, None, source.parent / "x"), f"tokenizer {source}: tokenizer.json: ")
    refused(lambda: CausalLM.of_model(source).tokenizer, f"{source}: tokenizer.json: ")


def test_a_tokenizer_with_an_absurd_id_is_refused(source: Path) -> None:
    own = read_json(source / "tokenizer.json")
    own["model"]["vocab"]["far"] = 2**32 - 1
    write_json(source / "tokenizer.json", own)
    spec = {"from": str(source), "revision": None, "eos_token": None}
    refused(lambda: build_tokenizer(spec, None, source.parent / "x"), "has a token with the id 4294967295; expected")


# --- weights ---------------------------------------------------------------------------------------------------------


def rewritten(folder: Path, change: Callable[[dict], object], name: str = WEIGHTS) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / name, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda whole: whole[: len(whole) // 2], "not fully covered"),
        (lambda whole: b"", "header too small"),
        (lambda whole: (2**62).to_bytes(8, "little") + whole[8:], "header too large"),
        (lambda whole: (10).to_bytes(8, "little") + b"x" * 100, "invalid JSON in header"),
    ],
)
def test_damaged_weights_are_told_in_one_line(source: Path, content: Callable[[bytes], bytes], told: str) -> None:
    (source / WEIGHTS).write_bytes(content((source / WEIGHTS).read_bytes()))
    refused(lambda: adopt_model({"from": str(source), "revision": None}, source.parent / "x"), f"{WEIGHTS}: is damaged")
    refused(lambda: load_model(source), told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda all: all.pop("model.norm.weight"), "lacks 'model.norm.weight', which would be left random"),
        (lambda all: [all.pop(name) for name in list(all)[1:]], "lacks 'model.embed_tokens.weight' and 19 more"),
        (lambda all: all.update(more=torch.zeros(3)), "found 'more', for which llama has no place"),
        (lambda all: all.update({"model.norm.weight": torch.zeros(3)}), "found the shape [3]; expected [32]"),
        (lambda all: all.update({"model.norm.weight": torch.zeros(32, dtype=torch.int8)}), "'model.norm.weight' is of"),
    ],
)
def test_weights_that_are_not_the_models_are_told_in_one_line(
    source: Path, change: Callable[[dict], object], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    rewritten(source, change)
    refused(lambda: load_model(source), told)
    refused(lambda: load_model(source), WEIGHTS)
    assert "LOAD REPORT" not in caplog.text


def test_tied_weights_and_masks_of_old_files_are_no_mistake(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]}
    config = AutoConfig.for_model("gpt_neo", vocab_size=300, max_position_embeddings=64, **sizes)
    folder = tmp_path / "gpt_neo"
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    mask = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    rewritten(folder, lambda all: all.update({"transformer.h.0.attn.attention.bias": mask}))
    rewritten(folder, lambda all: all.update({"transformer.h.0.attn.attention.masked_bias": torch.tensor(-1e9)}))
    assert "lm_head.weight" not in load_file(folder / WEIGHTS)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(load_model(folder)(ids).logits, AutoModelForCausalLM.from_pretrained(folder)(ids).logits)
    rewritten(folder, lambda all: all.update({"transformer.h.0.attn.attention.q_proj.bias": torch.ones(32)}))
    refused(lambda: load_model(folder), "found 'transformer.h.0.attn.attention.q_proj.bias', for which gpt_neo has no")


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({"weight_map": {"model.norm.weight": "../source/a.safetensors"}}, "is in '../source/a.safetensors'; expected"),
        ({"weight_map": {"model.norm.weight": "b.safetensors"}}, "names b.safetensors, which is not there"),
        ({"weight_map": {"model.norm.weight": 5}}, "is in 5; expected a *.safetensors beside it"),
        ({"weight_map": []}, "weight_map: found []"),
        ({"weight_map": {"model.norm.weight": "a.safetensors"}, "metadata": 3}, "metadata: found 3"),
    ],
)
def test_an_index_names_files_of_its_directory(source: Path, index: dict, told: str) -> None:
    (source / WEIGHTS).rename(source / "a.safetensors")
    write_json(source / INDEX, {"metadata": {}} | index)
    refused(lambda: adopt_model({"from": str(source), "revision": None}, source.parent / "x"), f"{INDEX}: ")
    refused(lambda: load_model(source), told)
