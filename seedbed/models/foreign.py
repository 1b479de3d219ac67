"""Directories of models and tokenizers from elsewhere: data, never code.

A directory is checked before transformers reads it, which would ask whether to import code that a config names, fetch
kernels and adapters from a hub, or open files elsewhere. Nothing here loads transformers or torch.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from seedbed.errors import SeedbedError, shown

# No pickles, and no code.
TOKENIZER_FILES = ["*.json", "*.model", "*.txt"]
WANTED = [*TOKENIZER_FILES, "*.safetensors"]  # configs, tokenizers and weights
MIB = 2**20
MOST_JSON, MOST_INDEX, MOST_VOCABULARY = 16 * MIB, 64 * MIB, 1024 * MIB
# Of which each key is a token: read by tokenizers alone.
VOCABULARIES = {"tokenizer.json", "vocab.json", "tekken.json", "added_tokens.json"}
OBJECTS = {"config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"}
WEIGHTS, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_config.json"

IMPLEMENTATION = re.compile(r"_?(attn|experts)_implementation(_internal)?")
PLAIN = {"eager", "sdpa", "grouped_mm", "batched_mm"}  # those of torch; any other may be a kernel on a hub
CODE = {"custom_generate", "kernel_config", "trust_remote_code", "use_kernels"}
QUANTIZED = {"compression_config", "quantization_config"}
FILES = {"configuration_files", "fast_tokenizer_files", "gguf_file", "merges", "vocab"}
# Arguments for libraries of tokenizers, which open what else they name.
LIBRARIES = {"jumanpp_kwargs", "mecab_kwargs", "sp_model_kwargs", "sudachi_kwargs"}
KNOWN = {"mecab_dic": {"ipadic", "unidic", "unidic_lite"}, "sudachi_dict_type": {"small", "core", "full"}}
KNOWN |= {"sudachi_split_mode": {"A", "B", "C"}}
TOKENIZER = re.compile(r"(?!Auto|Rag)\w*(Tokenizer|TokenizerFast|Backend)")  # those two load further directories
FLOATS = {"F64", "F32", "F16", "BF16"}
# Sizes as config classes call them, and far more than any model has: modules are made before weights are read.
LARGEST = dict.fromkeys(("num_hidden_layers", "num_layers", "n_layer", "n_layers"), 10_000)
LARGEST |= dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "n_heads", "num_heads"), 2**16)
LARGEST |= dict.fromkeys(("hidden_size", "intermediate_size", "n_embd", "n_inner", "d_model", "head_dim"), 2**24)
LARGEST |= dict.fromkeys(("max_position_embeddings", "n_positions"), 2**40)
LARGEST |= {"vocab_size": 2**28, "num_experts": 10_000, "num_local_experts": 10_000}

COPIES = "give a directory of the files themselves, such as a copy made with `cp -rL`"


def check_directory(folder: Path, called: str = "") -> None:
    """Raise SeedbedError at what is no data in a model's directory, or none that transformers could read.

    `called` is how messages begin, the directory unless given.
    """
    called = called or str(folder)
    if (folder / ADAPTER).exists():
        raise SeedbedError(f"{called}: {ADAPTER}: it is an adapter of another model; expected a whole model")
    check_regular(folder, called)
    for path in sorted(folder.glob("*.json")):
        where = f"{called}: {path.name}"
        if path.name in OBJECTS or path.name.startswith("config."):
            check_keys(read_object(path, where), where)
        elif path.name not in VOCABULARIES and not path.name.endswith(".index.json"):
            try:
                found = read_bounded(path, where, MOST_JSON)
            except SeedbedError:  # nor does transformers read it
                continue
            check_keys(found, where)


def check_tokenizer(folder: Path, called: str) -> None:
    """The same of a directory of which the tokenizer is loaded alone: code that the model would need is never asked."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / name).exists():
            check_keys(read_object(folder / name, f"{called}: {name}"), f"{called}: {name}")
    where = f"{called}: config.json"
    if (folder / "config.json").exists():
        named = read_object(folder / "config.json", where).get("tokenizer_class")
        check_keys({"tokenizer_class": named}, where)


def read_config(folder: Path, called: str = "") -> dict:
    """The config.json of a directory, checked as `check_directory` does."""
    where = f"{called or folder}: config.json"
    found = read_object(folder / "config.json", where)
    check_keys(found, where)
    return found


def check_weights(folder: Path, called: str = "") -> None:
    """Raise SeedbedError where weights are damaged, missing, not plain numbers, or outside the directory."""
    from safetensors import SafetensorError, safe_open

    called = called or str(folder)
    single = folder / WEIGHTS
    if not single.exists() and not (folder / INDEX).exists() and (other := sorted(folder.glob("*.safetensors"))):
        raise SeedbedError(f"{called}: found {shown(other[0].name)}; expected {WEIGHTS}, or {INDEX} that names it")
    for path in [single] if single.exists() else shards(folder, called):
        where = f"{called}: {path.name}"
        open_regular(path, where).close()
        try:
            with safe_open(path, framework="numpy") as tensors:
                kinds = {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise SeedbedError(f"{where}: is damaged ({error}); expected weights as safetensors") from None
        for name, kind in kinds.items():
            if name.endswith(".weight") and kind not in FLOATS:
                raise SeedbedError(f"{where}: {shown(name)} is of {kind}; expected one of {', '.join(sorted(FLOATS))}")


def shards(folder: Path, called: str) -> list[Path]:
    """The files of weights that an index names; none without an index."""
    if not (folder / INDEX).exists():
        return []
    where = f"{called}: {INDEX}"
    found = read_object(folder / INDEX, where, MOST_INDEX)
    named = found.get("weight_map")
    if not isinstance(found.get("metadata"), dict):
        raise SeedbedError(f"{where}: metadata: found {shown(found.get('metadata'))}; expected an object, if empty")
    if not isinstance(named, dict) or not named:
        raise SeedbedError(f"{where}: weight_map: found {shown(named)}; expected files of tensors by name")
    files = {}
    for tensor, name in named.items():
        if not (is_plain(name) and name.endswith(".safetensors")):
            raise SeedbedError(f"{where}: {shown(tensor)} is in {shown(name)}; expected a *.safetensors beside it")
        files[name] = folder / name
    for name, path in sorted(files.items()):
        if not path.exists():
            raise SeedbedError(f"{where}: names {name}, which is not there")
    return [files[name] for name in sorted(files)]


def check_keys(found: Any, where: str) -> None:
    for key, value in keys_of(found):
        if problem := refusal(key, value) if value else None:
            raise SeedbedError(f"{where}: {problem}")
        if key in LARGEST and isinstance(value, int | float) and not (value % 1 == 0 <= value <= LARGEST[key]):
            raise SeedbedError(f"{where}: {key}: found {shown(value)}; expected a whole number up to {LARGEST[key]:,}")


def refusal(key: str, value: Any) -> str | None:
    """What is wrong with a key of a config, whose value is not empty; None where it is data."""
    if key == "auto_map":
        code = shown(next(texts(value), value))
        expected = "expected a model type and a tokenizer of transformers, and no such key"
        return f"auto_map names code of its own ({code}), which is never run; {expected}"
    if key in CODE:
        return f"{key} asks for code of its own, which is never run; expected no such key"
    if IMPLEMENTATION.fullmatch(key) and (other := [name for name in texts(value) if name not in PLAIN]):
        return f"{key} names {shown(other[0])}, which may be code from a hub; expected eager or sdpa"
    if key in QUANTIZED:
        method = value.get("quant_method") if isinstance(value, dict) else value
        return f"{key}: found {shown(method)}, which needs further code; expected weights that are not quantized"
    if key in FILES and (isinstance(value, str) or key.endswith("_files")):
        other = [name for name in texts(value) if not is_plain(name)]
        return f"{key} names {shown(other[0])}; expected a file beside it" if other else None
    if key in LIBRARIES:
        named = ((name, text) for name, of in keys_of(value) for text in texts(of) if text not in KNOWN.get(name, ()))
        if (other := next(named, None)) is not None:
            return f"{key}: {other[0]} names {shown(other[1])}, which may be a file elsewhere; expected no such key"
    if key == "transformers_weights":  # in place of the usual names
        return f"{key} names {shown(value)}; expected {WEIGHTS} or {INDEX}, and no such key"
    if key == "tokenizer_class" and not (isinstance(value, str) and TOKENIZER.fullmatch(value)):
        return f"tokenizer_class names {shown(value)}; expected a tokenizer of transformers"
    return None


def keys_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Each key of a JSON value with what it has, at any depth."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from one.items()
            left += one.values()
        elif isinstance(one, list):
            left += one


def texts(value: Any) -> Iterator[str]:
    """The strings in a JSON value, keys aside."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        else:
            left += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()


def is_plain(name: Any) -> bool:
    """Whether it is the name of a file, without a directory."""
    return isinstance(name, str) and name not in ("", ".", "..") and not re.search(r"[/\\\0]", name)


@contextmanager
def panics_raised() -> Iterator[None]:
    """Raise panics of Rust, as tokenizers have, as RuntimeError; they are no Exception."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise RuntimeError(str(error)) from None


def reason(error: Exception, folder: Path | None = None, source: str = "") -> str:
    """What somebody else's error says, in a line; of the source, where `folder` has its files for now."""
    if isinstance(error, KeyError):  # a name that none of its tables has
        return f"found {error}, which transformers does not know"
    lines = [line.strip() for line in (str(error).strip() or type(error).__name__).splitlines()]
    told = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return told.replace(str(folder), source) if folder else told


# --- files -----------------------------------------------------------------------------------------------------------


def is_directory(source: str) -> bool:
    """Whether a source is a directory; an id of the hub may be longer than names of files."""
    try:
        return Path(source).is_dir()
    except OSError:
        return False


def take(source: Path, folder: Path, patterns: list[str], called: str) -> None:
    """Link the regular files of a directory that have one of these names into a new one; copies where it cannot link.

    Raises SeedbedError at anything else of such a name, and at a file that is too large for what it is.
    """
    folder.mkdir(parents=True)
    for path in matching(source, patterns):
        where = f"{called}: {path.name}"
        with open_regular(path, where, follow=False) as stream:
            opened = os.fstat(stream.fileno())
            if path.suffix != ".safetensors":
                check_size(opened.st_size, where, MOST_VOCABULARY)
            target = folder / path.name
            try:
                os.link(path, target, follow_symlinks=False)
            except OSError:  # another file system, or somebody else's file
                with target.open("xb") as copy:
                    shutil.copyfileobj(stream, copy, MIB)
            else:
                if not os.path.samestat(opened, target.lstat()):
                    raise SeedbedError(f"{where}: was replaced while it was taken")


def matching(folder: Path, patterns: list[str]) -> list[Path]:
    """What lies in a directory under names of these patterns, in order."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def check_regular(folder: Path, called: str) -> None:
    """Raise SeedbedError where a file that transformers may open is a pipe, a directory or a device."""
    for path in matching(folder, WANTED):
        open_regular(path, f"{called}: {path.name}").close()


def open_regular(path: Path, where: str, follow: bool = True) -> BinaryIO:
    """Open a regular file to read; a symbolic link to one only if they are followed."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    if not follow and path.is_symlink():
        raise SeedbedError(f"{where}: found a symbolic link, expected a regular file; {COPIES}")
    try:
        number = os.open(path, flags)
    except FileNotFoundError:
        raise SeedbedError(f"{where}: no such file") from None
    except OSError as error:  # a socket, or no permission
        raise SeedbedError(f"{where}: cannot be read ({error.strerror}); expected a regular file") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise SeedbedError(f"{where}: found {kind_of(path)}, expected a regular file")
    return os.fdopen(number, "rb")


def kind_of(path: Path) -> str:
    return "a directory" if path.is_dir() else "a pipe" if path.is_fifo() else "a device"


def check_size(size: int, where: str, most: int) -> None:
    if size > most:
        raise SeedbedError(f"{where}: found {size:,} bytes; expected at most {most:,}")


def read_object(path: Path, where: str, most: int = MOST_JSON) -> dict:
    found = read_bounded(path, where, most)
    if not isinstance(found, dict):
        raise SeedbedError(f"{where}: found {shown(found)}; expected an object with keys")
    return found


def read_bounded(path: Path, where: str, most: int) -> Any:
    """The value in a JSON file of at most so many bytes."""
    with open_regular(path, where) as stream:
        text = stream.read(most + 1)
        check_size(max(len(text), os.fstat(stream.fileno()).st_size), where, most)
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, digits or depth without end
        raise SeedbedError(f"{where}: not valid JSON ({error})") from None
