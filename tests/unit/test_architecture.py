"""The picture of the rooms in docs/architecture.md is what the imports say."""

import ast
import re
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
Edges = set[tuple[str, str]]
COMPILES = {"njit", "intrinsic", "entry", "counting_nothing", "inner", "allocating"}


def room_of(module: str, graph: grimp.ImportGraph) -> str | None:
    """Name the box of a module: services are one, a package of `shared` is one; single files of `shared` have none."""
    parts = module.split(".")
    if len(parts) < 2 or parts[1] == "__main__":
        return None
    if parts[1] == "services":
        return None if len(parts) < 3 else "cli" if parts[2] == "cli" else "services"
    if parts[1] == "shared":
        return f"shared_{parts[2]}" if len(parts) > 2 and graph.find_children(".".join(parts[:3])) else None
    return parts[1]


def imports() -> Edges:
    graph = grimp.build_graph("tidemill")
    edges = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            ends = room_of(module, graph), room_of(imported, graph)
            if ends[0] and ends[1] and ends[0] != ends[1]:
                edges.add((ends[0], ends[1]))
    return edges


def reached(edges: Edges, begin: str) -> set[str]:
    names: set[str] = set()
    open_ends = [begin]
    while open_ends:
        here = open_ends.pop()
        for before, after in edges:
            if before == here and after not in names:
                names.add(after)
                open_ends.append(after)
    return names


def without_shortcuts(edges: Edges) -> Edges:
    return {(begin, end) for begin, end in edges if end not in reached(edges - {(begin, end)}, begin)}


def test_the_picture_is_what_the_imports_say() -> None:
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", PAGE, re.M))
    expected = without_shortcuts(imports())
    assert len(expected) > 30
    assert drawn == expected, f"missing: {sorted(expected - drawn)}; drawn and not there: {sorted(drawn - expected)}"


def test_rooms_import_in_one_direction() -> None:
    edges = imports()
    assert not [room for room, _ in edges if room in reached(edges, room)]


def test_every_place_that_the_page_names_is_there() -> None:
    places = [place for place in re.findall(r"`((?:services|shared|tidemill|schemas|tests|docs)/[\w/.-]+)`", PAGE)]
    assert len(places) > 15
    assert not [place for place in places if not (ROOT / place).exists()]


def test_clients_beside_the_broker_port_are_those_of_adr_29() -> None:
    files = [file for room in ("services", "shared", "deploy", "tidemill") for file in (ROOT / room).rglob("*.py")]
    uses = re.compile(r"^\s*(?:from|import) confluent_kafka(?!\.schema_registry)", re.M)
    users = {
        str(file.relative_to(ROOT)) for file in files if not file.is_relative_to(ROOT / "shared" / "kafka") and uses.search(file.read_text("utf-8"))
    }
    expected = {
        "deploy/embedded/kafka.py",  # asks whether the server that it has started is up
        "services/gateway/publisher.py",
        "tidemill/demo/open_loop_load.py",
        "tidemill/runs/kafka_clients.py",
        "tidemill/runs/watch.py",
    }
    assert users == expected


def test_times_of_records_become_dates_in_one_place() -> None:
    """A record may say any 64 bits, and a date ends with the year 9999."""
    files = [file for room in ("services", "shared", "tidemill") for file in (ROOT / room).rglob("*.py")]
    assert [str(file.relative_to(ROOT)) for file in files if "fromtimestamp(" in file.read_text("utf-8")] == ["shared/instant.py"]


def test_functions_without_types_are_kernels() -> None:
    """Modules with kernels may have functions without types; what numba does not compile has its types."""
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["overrides"]
    (modules,) = [one["module"] for one in overrides if one.get("disallow_untyped_defs") is False]
    bare, kernels = [], 0
    within: set[ast.AST] = set()
    for module in modules:
        file = ROOT / Path(*module.removeprefix("tidemill.").split(".")).with_suffix(".py")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            decorators = {part.id for decorator in node.decorator_list for part in ast.walk(decorator) if isinstance(part, ast.Name)}
            decorators |= {part.attr for decorator in node.decorator_list for part in ast.walk(decorator) if isinstance(part, ast.Attribute)}
            compiled = bool(decorators & COMPILES)
            kernels += compiled
            # An intrinsic has its code, which makes LLVM's, within it.
            within |= set(ast.walk(node)) if compiled else set()
            arguments = [*node.args.args, *node.args.kwonlyargs]
            typed = node.returns is not None and all(one.annotation is not None or one.arg in ("self", "cls") for one in arguments)
            if node not in within and not typed:
                bare.append(f"{file}:{node.lineno} {node.name}")
    assert not bare and kernels > 50
