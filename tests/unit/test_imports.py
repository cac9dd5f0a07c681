"""What scripts outside the package import from it: mypy does not read them, and many run in
processes of their own only.
"""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from symtable import symtable

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path for folder in ("benchmarks", "examples", "tests") for path in (ROOT / folder).rglob("*.py")
)


def imported_names(script: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import from the package."""
    for node in ast.walk(ast.parse(script.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "farm":
            yield from ((node.module, alias.name) for alias in node.names)


def exists(module: str, name: str) -> bool:
    """Read, not imported: to import `farm.tasks.celery` makes this process an application."""
    spec = find_spec(module)
    assert spec, module
    assert spec.origin, module
    table = symtable(Path(spec.origin).read_text(), spec.origin, "exec")
    if name in table.get_identifiers():
        symbol = table.lookup(name)
        return symbol.is_assigned() or symbol.is_imported()
    return bool(spec.submodule_search_locations) and find_spec(f"{module}.{name}") is not None


@pytest.mark.parametrize("script", SCRIPTS, ids=[str(path.relative_to(ROOT)) for path in SCRIPTS])
def test_a_script_imports_only_what_exists(script: Path):
    imported = imported_names(script)
    assert not [f"{module}.{name}" for module, name in imported if not exists(module, name)]
