"""YAML files read strictly: a key that is written twice is an error, and so is what would fill the memory."""

import json
from pathlib import Path
from typing import Any

import yaml

from seedbed.config.messages import DEEPEST
from seedbed.errors import SeedbedError, cut, shown

LARGEST = 10**6  # values, those that aliases repeat included
MERGE = "tag:yaml.org,2002:merge"
KINDS = {"timestamp": "date", "int": "whole number", "float": "number"}  # what YAML takes unquoted text for, by tag
Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(path: Path | str) -> dict:
    """The mapping in a file of YAML or JSON; an empty file has none of its keys.

    Raises SeedbedError, with the path of the key and lines where there are such, when the file cannot be read, is not
    YAML, holds something else than one mapping, or has a key twice.
    """
    text = read_text(path)
    try:
        check_depth(text)
        found = Document(text).mapping()
    except yaml.YAMLError as error:
        try:  # JSON may be indented with tabs
            found = json.loads(text)
            json.dumps(found, ensure_ascii=False).encode()  # fails for halves of surrogate pairs
        except (ValueError, RecursionError):
            raise SeedbedError(f"{path}: not valid YAML: {told(error)}") from None
    except SeedbedError as error:
        raise SeedbedError(f"{path}: {error}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise SeedbedError(f"{path}: found {shown(found)}, expected a mapping with keys such as runs and studies")
    return found


def read_text(path: Path | str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SeedbedError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SeedbedError(f"{path}: line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from None
    except OSError as error:
        raise SeedbedError(f"{path}: {error.strerror}") from None


def told(error: yaml.YAMLError) -> str:
    """What is wrong, and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    parts = [part for name in ("context", "problem") if (part := getattr(error, name, None))]
    return where + " ".join((", ".join(parts) or str(error)).split())


def check_depth(text: str) -> None:
    """Raise SeedbedError where values nest so deep that a parser would run out of stack."""
    depth = 0
    for event in yaml.parse(text, Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise SeedbedError(f"line {event.start_mark.line + 1}: values nest deeper than {DEEPEST}")


class Document:
    """One document of YAML as nodes, checked before values are made of it."""

    def __init__(self, text: str) -> None:
        self.loader = Loader(text)
        self.extents: dict[int, tuple[int, int]] = {}  # values and depth of each node
        self.within: set[int] = set()  # the nodes that are being looked at

    def mapping(self) -> Any:
        node = self.loader.get_single_node()
        if node is None:
            return None
        self.check(node, [])
        return self.loader.construct_document(node)

    def check(self, node: yaml.Node, path: list[str]) -> tuple[int, int]:
        """How many values a node stands for, and how deep they nest; each node is looked at once."""
        if id(node) in self.within:
            raise mistake(path, node, "contains itself")
        if id(node) not in self.extents:
            self.within.add(id(node))
            parts = [self.check(part, path + key) for key, part in self.parts(node, path)]
            self.within.remove(id(node))
            self.extents[id(node)] = (
                1 + sum(count for count, _ in parts),
                1 + max((deep for _, deep in parts), default=0),
            )
        count, depth = self.extents[id(node)]
        if count > LARGEST or depth > DEEPEST:
            found = f"more than {LARGEST:,} values" if count > LARGEST else f"values that nest deeper than {DEEPEST}"
            raise mistake(path, node, f"stands for {found}, those of aliases included")
        return count, depth

    def parts(self, node: yaml.Node, path: list[str]) -> list[tuple[list[str], yaml.Node]]:
        """The nodes in a node, each with its key."""
        match node:
            case yaml.MappingNode():
                self.check_keys(node, path)
                return [([key.value], value) for key, value in node.value]
            case yaml.SequenceNode():
                return [([str(number)], value) for number, value in enumerate(node.value)]
        self.value(node, path)
        return []

    def check_keys(self, node: yaml.MappingNode, path: list[str]) -> None:
        lines = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise mistake(path, key, "a key is a mapping or a list; expected text")
            if key.tag == MERGE:
                continue
            name, line = self.value(key, path), key.start_mark.line + 1
            if name in lines:
                raise mistake([*path, cut(key.value, 100)], key, f"written in line {lines[name]} already")
            lines[name] = line

    def value(self, node: yaml.ScalarNode, path: list[str]) -> Any:
        """The value of a scalar; YAML takes what looks like a date or a number for one."""
        try:
            return self.loader.construct_object(node)
        except yaml.YAMLError as error:
            problem = str(error.problem)
        except (ValueError, AttributeError) as error:
            why = f" ({cut(str(error), 100)})" if isinstance(error, ValueError) else ""
            problem = (
                f"found {shown(node.value)}, which is no {KINDS.get(node.tag.rpartition(':')[2], 'such value')}{why}"
            )
        raise mistake(path, node, problem)


def mistake(path: list[str], node: yaml.Node, message: str) -> SeedbedError:
    return SeedbedError(": ".join([*([".".join(path)] if path else []), f"line {node.start_mark.line + 1}", message]))
