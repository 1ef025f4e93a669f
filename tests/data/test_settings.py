"""Settings in YAML: what recipes need is read, everything else is refused in words."""

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from bcx.data.settings import MOST_BYTES, checked, parse_value, read_settings
from bcx.errors import ConfigError

PLAIN = 'epochs: 3\nmean: [0.5, 0.25, 1e-3]\ntask: {name: own, classes: [a, "no"]}\ninit: null  # later\n'


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    epochs: int = 1


def read(path):
    return read_settings(path, "configs/x.yaml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_plain_settings_read_as_the_library_reads_them(tmp_path, encoding):
    (tmp_path / "r.yaml").write_text(PLAIN, encoding)
    assert read(tmp_path / "r.yaml") == yaml.safe_load(PLAIN)
    assert parse_value("[1, yes, x]") == [1, True, "x"]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
        "a: &a {x: 1}\nb: {<<: *a}\n",
        "a: &a [*a]\n",
        "a: !!python/object/apply:os.system ['true']\n",
        "a: !!timestamp x\n",
        "a: !!bool perhaps\n",
        "a: 1\nb: 2\na: 3\n",
        "a: {b: 1, b: 2}\n",
        "a: " + "[" * 5000 + "]" * 5000,
        "a: " + "[" * 12 + "]" * 12,
        "- " * 5000,
        "a: 2001-99-99\n",
        "a: " + "9" * 5000,
        "a: 0b_\n",
        "? [a]\n: 1\n",
        "a: \x00\n",
        "1: 2\n",
        "- a\n",
        "",
        b"a: \xff\xfe\n",
        b"\xff\xfea: 1\n",
        "a: x\n" + "# " * MOST_BYTES,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_plain_mapping_is_refused_in_words(tmp_path, text):
    (tmp_path / "r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"The recipe 'r\.yaml'") as caught:
        read(tmp_path / "r.yaml")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["[1, 2", "!!int x", "*a", "9" * 5000, "a: b: c"])
def test_a_value_of_the_command_line_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="cannot be read"):
        parse_value(text)


def test_the_first_problems_are_named_and_the_others_counted():
    with pytest.raises(ConfigError, match=r"epochs: .*; k0: .*; and 13 more"):
        checked(Settings, {"epochs": "many"} | {f"k{i}": 0 for i in range(20)}, "here")
    assert checked(Settings, {"epochs": 4}, "here").epochs == 4
    with pytest.raises(ConfigError, match="from here"):
        checked(Settings, {1: 2}, "here")  # type: ignore[dict-item]
