"""docs/reference/application.md says everything about the application file, and nothing that is not so."""

import re
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from tidemill.shared.application import drift_policy, gate_policy, stages, training_policy
from tidemill.shared.application import model as models
from tidemill.shared.application.json_schema import duration_text
from tidemill.shared.application.plan import Kind

TEXT = (Path(__file__).parents[4] / "docs" / "reference" / "application.md").read_text()
ROW = re.compile(r"^\| `([a-z_0-9]+)` \| (.+?) \| (.+?) \| (.+?) \| `(.+)` \|$", re.M)
NOUNS = [
    noun
    for module in (models, training_policy, gate_policy, drift_policy, stages)
    for noun in vars(module).values()
    if isinstance(noun, type)
    and issubclass(noun, BaseModel)
    and noun.__module__ == module.__name__
    and noun.__name__ != "Owned"
    and not noun.__name__.startswith("_")
]


def rows(noun: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Default and example by key, as the section of a noun has them."""
    match = re.search(rf"^## {noun.__name__}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    assert match, f"no section {noun.__name__}"
    return {key: (default, example.replace("\\|", "|")) for key, _, default, _, example in ROW.findall(match[1])}


def default_text(field: Any) -> str:
    """How a default is written down."""
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, BaseModel):
        assert default == type(default)(), "a nested default is the defaults of its keys"
        return "`{}`"
    if isinstance(default, tuple | dict):
        return f"`[{', '.join(map(str, default))}]`" if isinstance(default, tuple) else "`{}`"
    # Durations are kept in milliseconds.
    is_duration = any("parse_duration" in repr(part) or "parse_schedule" in repr(part) for part in (*field.metadata, field.annotation))
    return f"`{duration_text(default)}`" if is_duration else f"`{default}`"


def validator(field: Any) -> TypeAdapter[Any]:
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(kind)


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_every_key_is_documented_with_its_default_and_an_example_that_validates(noun: type[BaseModel]) -> None:
    documented = rows(noun)
    fields = {field.alias or name: field for name, field in noun.model_fields.items()}
    assert list(documented) == list(fields)
    for key, field in fields.items():
        default, example = documented[key]
        assert default == default_text(field), f"{noun.__name__}.{key}"
        value = YAML(typ="safe").load(example)
        assert list(value) == [key], f"{noun.__name__}.{key}: {example}"
        validator(field).validate_python(value[key])


def test_every_aggregate_is_documented() -> None:
    table = TEXT[TEXT.index("| aggregate | windows |") :].split("\n\n")[0]
    named = {name for cell in re.findall(r"^\| (`[^|]+) \|", table, re.M) for name in re.findall(r"`([a-z_0-9]+)`", cell)}
    assert named == set(get_args(Kind))


def test_a_wrong_example_would_be_found() -> None:
    field = gate_policy.Gate.model_fields["alpha"]
    with pytest.raises(ValidationError):
        validator(field).validate_python(0.9)
