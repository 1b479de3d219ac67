"""Types that configuration fields share: counts with suffixes, names, fractions, strict mappings."""

import re
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from seedbed.errors import choices

# SI and IEC suffixes: 64k is 64 000, 64Ki is 65 536.
MULTIPLIERS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
COUNT = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*(|k|M|G|Ki|Mi|Gi)")
LARGEST_COUNT = 10**18
COUNT_EXPECTED = "expected a whole number, such as 65536, 64Ki or 1.5M"


def parse_count(value: Any) -> int:
    """Read `65536`, `64Ki`, `1.5M` or `1e6` as a whole number.

    Raises ValueError for anything else, fractions and booleans included.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(COUNT_EXPECTED)
    match = COUNT.fullmatch(str(value).strip())
    if not match:
        raise ValueError(COUNT_EXPECTED)
    number = float(match[1]) * MULTIPLIERS[match[2]]
    if number > LARGEST_COUNT or number != int(number):
        raise ValueError(COUNT_EXPECTED)
    return int(number)


def format_count(value: int) -> str:
    """The shortest spelling that `parse_count` reads back: 65536 is `64Ki`, 64000 is `64k`."""
    for suffix in ("Gi", "G", "Mi", "M", "Ki", "k"):
        if value and value % MULTIPLIERS[suffix] == 0:
            return f"{value // MULTIPLIERS[suffix]}{suffix}"
    return str(value)


def reject_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


COUNT_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{COUNT.pattern}$"}]}
Count = Annotated[int, BeforeValidator(parse_count), WithJsonSchema(COUNT_SCHEMA)]
Positive = Annotated[Count, Field(ge=1)]
# Lax on purpose: YAML 1.1 reads 1e-3 (no dot) as a string.
Number = Annotated[float, BeforeValidator(reject_bool), Field(allow_inf_nan=False)]
PositiveNumber = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Beta = Annotated[Number, Field(ge=0, lt=1)]

# Of one key: a longer list is a mistake.
MOST_NUMBERS = 1000
Few = Field(min_length=1, max_length=MOST_NUMBERS)


def numbers_of(numbers: range) -> list[int]:
    """A range as a list; raises ValueError where it has more than `MOST_NUMBERS`."""
    if (count := -(-(numbers.stop - numbers.start) // numbers.step)) > MOST_NUMBERS:
        raise ValueError(f"a range of {count} numbers; expected at most {MOST_NUMBERS}")
    return list(numbers)


# Names become file names and shell words.
NAME = r"^[A-Za-z0-9_][A-Za-z0-9._+=,-]*$"
LONGEST_NAME = 200
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=LONGEST_NAME)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """A mapping of the configuration: an unknown key is an error that names the nearest valid one."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def known_keys(cls, value: Any) -> Any:
        if isinstance(value, dict):
            valid = [field.alias or name for name, field in cls.model_fields.items()]
            for key in value:
                if key not in valid and key not in cls.model_fields:
                    hint = choices(key, valid)
                    raise PydanticCustomError("unknown_key", "unknown key{hint}", {"key": str(key), "hint": hint})
        return value


def dump(model: Strict) -> dict:
    """A mapping of the configuration as plain JSON."""
    return model.model_dump(mode="json", by_alias=True)


def without(mapping: dict, *keys: str) -> dict:
    return {key: value for key, value in mapping.items() if key not in keys}


def by_key(*keys: str) -> Discriminator:
    """Tell the forms of a mapping apart by the key that only one of them has."""

    def tag(value: Any) -> str | None:
        found = [key for key in keys if (key in value if isinstance(value, dict) else hasattr(value, key.rstrip("_")))]
        return f"<{found[0]}>" if len(found) == 1 else None

    expected = f"expected a mapping with exactly one of the keys {', '.join(keys)}"
    return Discriminator(tag, custom_error_type="which_form", custom_error_message=expected)
