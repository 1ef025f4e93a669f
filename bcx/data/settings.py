"""Settings that people hand in as YAML: recipes, and single values of the command line.

Not read: aliases (a few lines of which can stand for gigabytes), tags, deep nesting, a key twice.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from bcx.errors import ConfigError, problems_of

MOST_BYTES = 100_000  # the longest recipe that ships has 2,000
_DEEPEST = 12

Model = TypeVar("Model", bound=BaseModel)


class Settings(BaseModel):
    """A block of settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(None, None, "aliases and tags are not read", event.start_mark)
        if self.depth == _DEEPEST:
            raise yaml.MarkedYAMLError(None, None, "blocks within blocks within blocks", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        values = super().construct_mapping(node, deep)
        if len(values) < len(node.value):
            raise yaml.MarkedYAMLError(None, None, "a key comes twice", node.start_mark)
        return values


def parse_value(text: str) -> Any:
    """Read one value of the command line, such as `KEY=VALUE` has it; `ConfigError` where it is no YAML."""
    try:
        return yaml.load(text, _Loader)  # a safe one, as its base is
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"The value '{text[:80]}' cannot be read ({str(error)[:300]}).",
            expected="a number, a word, true, false, null, or a list such as [1, 2]",
            remedy="Correct it, or put quotes around text.",
        ) from error


def read_settings(file: Path, example: str) -> dict[str, Any]:
    """Read a mapping from YAML, in UTF-8 or UTF-16; `ConfigError` names `example`, a file that shows how one looks."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        loaded = yaml.load(data, _Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"The recipe '{file.name}' cannot be read ({str(error)[:500]}).",
            expected=f"a YAML file, such as {example}",
            remedy="Check the path and the file's syntax.",
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise ConfigError(
            f"The recipe '{file.name}' holds no settings.", expected="lines of 'key: value'", remedy="See configs/."
        )
    return loaded


def checked(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """Return the settings as `model` has them; `ConfigError` names every unknown key and value out of range."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            f"The recipe from {where} has settings that do not fit: {problems_of(error, 'recipe')}.",
            expected=f"only these keys: {', '.join(model.model_fields)}",
            remedy="Correct or remove the settings named.",
        ) from error
