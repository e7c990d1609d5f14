"""The direction of imports, as setup.cfg says, and the place of each module, as the docs say."""

import ast
import configparser
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "itkit"
PACKAGES = sorted(
    path.parent for path in (ROOT / "itkit").rglob("__init__.py") if path.parent.name != "commands"
)


def test_the_contracts_are_kept() -> None:
    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_each_setting_is_in_one_file_only() -> None:
    # setup.cfg holds the architecture; a section that pyproject.toml has too would be half dead.
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert {section.partition(":")[0] for section in config.sections()} == {"importlinter"}


def test_each_package_has_a_contract() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    contracts = [config[section] for section in config.sections()]
    ordered = {found["containers"] for found in contracts if found.get("type") == "layers"}
    assert ordered == {".".join(path.relative_to(ROOT).parts) for path in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_module_is_in_the_reading_order_of_its_package(package: Path) -> None:
    if package.name == "itkit":
        named = (ROOT / "docs" / "architecture.md").read_text().replace("`", "``")
    else:
        named = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    assert [name for name in sorted(modules | rooms) if f"``{name}``" not in named] == []


def test_the_files_that_the_page_names_for_a_change_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    _, _, rest = page.partition("## Where would you change this?")
    named = re.findall(r"`([\w/]+/[\w/]*\.py|\w+\.py)`", rest.partition("\n## ")[0])
    assert len(named) > 20
    missing = [name for name in named if not any((at / name).exists() for at in (ROOT, PACKAGE))]
    assert missing == []


def test_the_tests_mirror_the_package() -> None:
    tests, package = ROOT / "tests", ROOT / "itkit"
    folders = {path.parent.name for path in tests.glob("*/*.py")}
    rooms = {path.name for path in PACKAGES if path.parent == package}
    assert folders - rooms == {"documentation", "doors", "support"}
    alone = {path.stem.removeprefix("test_") for path in tests.glob("test_*.py")}
    modules = {path.stem for path in package.glob("*.py")}
    assert alone - modules == {"benchmarks", "import_cost"}


def test_each_class_has_a_name_of_its_own() -> None:
    classes = Counter(
        node.name
        for path in (ROOT / "itkit").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    # Django finds the class of a command by this name.
    assert {name for name, count in classes.items() if count > 1} == {"Command"}


def state_of(tree: ast.Module) -> set[str]:
    """Return the names of a module that can change while the process lives."""
    found = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name) and can_change(target.id, node.value):
                found.add(target.id)
    return found


def can_change(name: str, value: ast.expr | None) -> bool:
    is_empty = (isinstance(value, ast.Dict) and not value.keys) or (
        isinstance(value, ast.List) and not value.elts
    )
    if name.startswith("__"):
        return False
    made = isinstance(value, ast.Call | ast.List | ast.Dict | ast.Set)
    return is_empty or (made and name.lstrip("_")[:1].islower())


def test_each_state_of_the_process_has_an_owner_in_the_docs() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    _, _, rest = page.partition("## State of a process")
    rows = [line.split("|") for line in rest.partition("\n## ")[0].splitlines() if "| `" in line]
    listed = {
        f"{row[1].strip(' `')}.{name.strip(' `')}" for row in rows for name in row[2].split(",")
    }
    found = {
        ".".join((*path.relative_to(ROOT / "itkit").with_suffix("").parts, name))
        for path in (ROOT / "itkit").rglob("*.py")
        for name in state_of(ast.parse(path.read_text()))
    }
    assert found == listed
