"""The documentation: commands exist, links lead somewhere, Python compiles, figures are those that were measured."""

import ast
import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from bcx.cli import main as cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "checkpoints").glob("*/README.md")])
README = (ROOT / "README.md").read_text("utf-8")
FIGURES = (ROOT / "docs" / "explanation" / "figures.md").read_text("utf-8")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```", text, flags=re.DOTALL | re.MULTILINE)


def dedent_all(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def figures_module():
    spec = importlib.util.spec_from_file_location("figures", ROOT / "docs" / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pages
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"(https?|mailto):", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(found.read_text("utf-8")), f"{page.name}: no heading for {target}"


@pages
def test_python_compiles(page):
    for snippet in fenced(page.read_text("utf-8"), "python"):
        ast.parse(snippet)


@pages
def test_every_bcx_command_is_one(page):
    """Each `bcx ...` line in a page names a command, and options, that the command line has."""
    command_line = typer.main.get_command(cli.app)
    for block in fenced(page.read_text("utf-8"), "bash"):
        for line in dedent_all(block).splitlines():
            words = shlex.split(line.split(" > ")[0], comments=True)
            words = [Path(words[0]).name, *words[1:]] if words else []
            if not words or words[0] != "bcx":
                continue
            command = command_line
            rest = words[1:]
            while rest and rest[0] in getattr(command, "commands", {}):
                command = command.commands[rest.pop(0)]
            assert not hasattr(command, "commands"), f"{page.name}: no such command in '{line}'"
            if command.name == "serve":
                continue  # its options are those of demo.py
            known = {option for parameter in command.params for option in parameter.opts}
            asked = {word.split("=")[0] for word in rest if word.startswith("-")}
            assert asked <= known | {"--help"}, f"{page.name}: no such option in '{line}'"


@pages
def test_no_page_holds_a_placeholder(page):
    assert not re.search(r"\b(TODO|FIXME|TBD|XXX|lorem ipsum)\b", page.read_text("utf-8"), flags=re.IGNORECASE)


def test_the_readme_opens_as_a_space_needs_it():
    matter = yaml.safe_load(README.split("---\n")[1])
    pins = (ROOT / "requirements.txt").read_text("utf-8")
    pinned = re.findall(r"^gradio(?:\[.*\])?==(\S+)", pins, flags=re.MULTILINE)
    assert matter["sdk"] == "gradio"
    assert [matter["sdk_version"]] == pinned
    assert matter["python_version"] == "3.12"
    assert (ROOT / matter["app_file"]).is_file()
    assert matter["license"] == "apache-2.0"
    assert len(matter["short_description"]) <= 60
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in matter["tags"])


def test_the_readme_shows_a_picture_then_two_commands():
    body = README.split("---\n", 2)[2]
    assert body.index("![") < body.index("```bash")
    commands = [block.strip() for block in fenced(body, "bash")[:2]]
    for command in commands:
        parts = command.split(" && ")
        assert parts[0] == "python3 -m venv .venv"
        for file in re.findall(r"-r (\S+)", command):
            assert (ROOT / file).is_file()
    assert commands[0].endswith(".venv/bin/python demo.py")
    assert commands[1].endswith(".venv/bin/python -m pytest")


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 90


def test_ci_runs_the_readmes_own_test_command():
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    pattern = re.search(r"grep -m1 -E '([^']+)' README\.md", script).group(1)
    found = [line for line in README.splitlines() if re.search(pattern, line)]
    assert found == [fenced(README, "bash")[1].strip()]
    assert re.search(r"^export CI=true$", script, flags=re.MULTILINE)


@pytest.mark.parametrize("name", sorted(page.relative_to(ROOT).as_posix() for page in figures_module().PAGES))
def test_the_figures_of_a_page_are_those_that_were_measured(name):
    figures = figures_module()
    text = (ROOT / name).read_text("utf-8")
    assert figures.with_figures(text, figures.PAGES[ROOT / name]()) == text, "Run `python docs/figures.py`."


def test_the_readme_says_what_the_results_say():
    """Said once more without the writer's own code, so that a fault in it shows."""
    results = json.loads((ROOT / "results" / "mobilenetv2-lesion" / "results.json").read_text("utf-8"))
    for source in ("busi", "busbra"):
        part = results["sources"][source]
        assert f"{100 * results['decisions']['sources'][source]['accuracy']['value']:.1f} %" in FIGURES
        assert re.search(rf"\b{part['n']} scans", FIGURES)
    measured = json.loads((ROOT / "results" / "mobilenetv2-hospitals" / "results.json").read_text("utf-8"))
    assert len(measured["sources"]) == 3
    for part in measured["sources"].values():
        assert f"{part['one_view']['auc_malignant_vs_benign']['value']:.3f}"[1:] in README


def test_figures_are_written_as_they_were_measured():
    figures = figures_module()
    entry = {"value": 0.82345, "low": 0.79, "high": 0.851, "n": 651}
    assert figures.figure(entry, share=True) == "82.3 % (79.0 to 85.1)"
    assert figures.figure(entry, share=False) == ".823 (.790 to .851)"
