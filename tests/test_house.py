"""The house rules that a program can check: floors, rooms, guests, doors, mirrored tests, file sizes, start-up time.

The checker reads source with `ast`. The tests below `made-up houses` show that each rule can fail.
"""

import ast
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up. On a floor, a room may import those before it in its chain; chains do not know each other.
FLOORS = (
    "registration; home < settings < report < recording",
    "runtime; arrays < splits < streams < labels < data < matching < datasets; models; graph",
    "export < measure < fitting < keys < finished < calls < technique < train < seeds < population; bridge",
    "distill; compress; ensemble",
    "search",
    "tracking",
    "cli",
)
HEIGHT = {
    room: (floor, chain, step)
    for floor, chains in enumerate(FLOORS)
    for chain, rooms in enumerate(chains.split("; "))
    for step, room in enumerate(rooms.split(" < "))
}

EVERYWHERE = {room for room, (floor, _, _) in HEIGHT.items() if floor > 0}
GUESTS = {
    "numpy": EVERYWHERE, "keras": EVERYWHERE, "tensorflow": EVERYWHERE,
    "h5py": {"export", "fitting"}, "ml_dtypes": {"fitting"},
    "ai_edge_litert": {"export"}, "ai_edge_quantizer": {"export"},
    "sklearn": {"labels", "splits", "data", "datasets", "measure", "ensemble", "search"}, "scipy": {"ensemble", "population"},
    "tf_keras": {"bridge"}, "tensorflow_model_optimization": {"bridge"},
    "optuna": {"search"}, "joblib": {"search"}, "cloudpickle": {"search"}, "threadpoolctl": {"population"},
    "mlflow": {"tracking"}, "matplotlib": {"tracking"},
    "rich": {"cli", "search"}, "typer": {"cli"},
}  # fmt: skip
LATE = {"tf_keras", "tensorflow_model_optimization"}  # imported inside functions alone

DOORS = {"train.py"}  # who may call the fit() of a Keras model
TRAINERS = re.compile(r"^(self|super\(\)|(self\.)?_?(training|trainer))$")  # whose fit() anybody may call
LONGEST = 300


class Import(NamedTuple):
    """One imported name: the module it was taken from, the name (None for `import module`), the line, inside a function?"""

    module: str
    name: str | None
    line: int
    late: bool


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a module, also those inside functions; relative ones with their dots."""
    inside = {id(node) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, node.lineno, id(node) in inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (Import(module, alias.name, node.lineno, id(node) in inside) for alias in node.names)


def module_path(package: Path, dotted: str) -> Path | None:
    """The file of `kdfuse.a.b`, or None if there is no such module."""
    base = package.joinpath(*dotted.split(".")[1:])
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file() and base != package), None)


def room_of(package: Path, file: Path) -> str:
    return file.relative_to(package).parts[0].removesuffix(".py")


def may_import(room: str, other: str) -> bool:
    """Whether a file of `room` may import one of `other`."""
    (floor, chain, step), (other_floor, other_chain, other_step) = HEIGHT[room], HEIGHT[other]
    return room == other or other_floor < floor or (other_floor == floor and other_chain == chain and other_step < step)


def violations(package: Path) -> list[str]:
    """What breaks the rules in a package `kdfuse` at this path."""
    found: list[str] = []
    graph: dict[Path, set[Path]] = {}
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package).as_posix()
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if place == "__init__.py":
            continue  # the lazy table of public names knows every room
        if room_of(package, file) not in HEIGHT:
            found.append(f"{place}: the room is on no floor of tests/test_house.py")
            continue
        if file.name == "__init__.py":
            found += [f"{place}:{line}: an __init__ only lists names" for line in statements_beyond_names(tree)]
        for item in imports(tree):
            found += [f"{place}:{item.line}: {problem}" for problem in import_problems(package, file, item, graph)]
        if place not in DOORS and not place.startswith("search/"):
            found += [f"{place}:{line}: `{text}.fit(`: only {' and '.join(sorted(DOORS))} fits a model" for line, text in fits(tree)]
        if len(file.read_text(encoding="utf-8").splitlines()) > LONGEST:
            found.append(f"{place}: longer than {LONGEST} lines")
    return found + [f"imports in a circle: {' > '.join(names)}" for names in circles(package, graph)]


def import_problems(package: Path, file: Path, item: Import, graph: dict[Path, set[Path]]) -> Iterator[str]:
    room = room_of(package, file)
    top = item.module.split(".")[0]
    if item.module.startswith("."):
        yield "a relative import: name the file in full"
    elif top != "kdfuse":
        if top in sys.stdlib_module_names:
            return
        if top not in GUESTS:
            yield f"{top} is no guest of this house (GUESTS in tests/test_house.py)"
        elif room not in GUESTS[top]:
            yield f"{top} does not belong in {room}"
        elif top in LATE and not item.late:
            yield f"{top} is imported inside functions alone"
    elif item.module == "kdfuse" and item.name == "__version__":
        return
    else:
        whole = f"{item.module}.{item.name}" if item.name else item.module
        target = module_path(package, whole) or (module_path(package, item.module) if item.name else None)
        if item.module != "kdfuse" and module_path(package, item.module) is None:
            yield f"there is no file of {item.module}"
            return
        if target is None or target.name == "__init__.py":
            if target is None or target.parent != file.parent or file.name != "__init__.py":
                yield f"`{item.name or item.module}` comes through the __init__ of {item.module}: import it from the file that defines it"
            if target is None:
                return
        other = room_of(package, target)
        if other in HEIGHT and not may_import(room, other):
            yield f"{room} may not import {other}"
        if file.name != "__init__.py":
            graph.setdefault(file, set()).add(target)


def statements_beyond_names(tree: ast.Module) -> Iterator[int]:
    for node in tree.body:
        text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if not (text or names or isinstance(node, ast.ImportFrom)):
            yield node.lineno


def fits(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Calls of `something.fit(...)` where `something` is not a trainer."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("fit", "train_on_batch"):
            owner = ast.unparse(node.func.value)
            if not TRAINERS.match(owner):
                yield node.lineno, owner


def circles(package: Path, graph: dict[Path, set[Path]]) -> Iterator[list[str]]:
    """Import circles, each once, as the files on it."""
    done: set[Path] = set()

    def walk(file: Path, way: list[Path]) -> Iterator[list[str]]:
        if file in way:
            yield [path.relative_to(package).as_posix() for path in [*way[way.index(file) :], file]]
        elif file not in done:
            for target in sorted(graph.get(file, ())):
                yield from walk(target, [*way, file])
            done.add(file)

    for file in sorted(graph):
        yield from walk(file, [])


def without_test(package: Path, tests: Path) -> list[str]:
    """Source files that no test file mirrors."""
    files = [file.relative_to(package) for file in sorted(package.rglob("*.py")) if not file.name.startswith("__")]
    return [f"{file.as_posix()} has no tests/{mirror.as_posix()}" for file in files
            if not (tests / (mirror := file.with_name(f"test_{file.name}"))).is_file()]  # fmt: skip


def machine_paths(text: str) -> list[str]:
    """Absolute paths of somebody's machine."""
    folders = ("work", "root", "home", "Users", "opt", "mnt")
    return re.findall(r"(?<![\w.:/~$}*-])/(?:" + "|".join(folders) + r")/[\w.]+[\w./-]*", text)


def repository_files() -> list[Path]:
    """What is or would be committed: git's answer, or without git every file outside folders with a dot."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True)
        return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    skipped = (".venv", ".tools", ".git", ".kdfuse", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")
    return [path for path in ROOT.rglob("*") if path.is_file() and not set(skipped) & set(path.relative_to(ROOT).parts)
            and not any(part.endswith(".egg-info") for part in path.parts)]  # fmt: skip


# ─ this house


def test_the_house_is_in_order() -> None:
    assert violations(ROOT / "kdfuse") == []


def test_every_source_file_has_its_test() -> None:
    assert without_test(ROOT / "kdfuse", ROOT / "tests") == []


def test_the_folder_mlflow_is_no_package() -> None:
    assert list((ROOT / "mlflow").rglob("*.py")) == []


def test_no_file_names_a_path_of_a_machine() -> None:
    texts = {path: path.read_bytes() for path in repository_files()}
    found = {
        str(path.relative_to(ROOT)): paths for path, text in texts.items() if b"\0" not in text and (paths := machine_paths(text.decode()))
    }
    assert found == {}


def test_the_lock_holds_pinned_names_and_hashes_alone() -> None:
    line = re.compile(r'[a-z0-9-]+==[^\s;]+( ; [\w .*<>=!\'"]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?')
    assert [text for text in (ROOT / "requirements.lock").read_text().splitlines() if not line.fullmatch(text)] == []


def in_fresh_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_import_kdfuse_is_quick_and_light() -> None:
    code = (
        "import sys, time; begun = time.perf_counter(); import kdfuse; print(time.perf_counter() - begun)\n"
        "print([name for name in ('tensorflow', 'keras', 'mlflow', 'numpy', 'sklearn') if name in sys.modules])"
    )
    answers = [in_fresh_python(code).split("\n") for _ in range(5)]
    assert answers[0][1] == "[]"
    assert statistics.median(float(answer[0]) for answer in answers) < 0.3


def test_help_of_the_command_loads_no_tensorflow() -> None:
    code = (
        "import sys; sys.argv = ['kdfuse', '--help']\nfrom kdfuse.cli.app import main\ntry:\n    main()\nexcept SystemExit as end:\n"
        "    assert not end.code\nprint('loaded', [name for name in ('tensorflow', 'keras', 'mlflow') if name in sys.modules])"
    )
    assert in_fresh_python(code).splitlines()[-1] == "loaded []"


def test_every_public_name_is_what_its_table_says_whatever_came_first() -> None:
    code = (
        "import importlib, types, kdfuse\n"
        "for target in kdfuse._NAMES.values():\n    importlib.import_module(target.partition(':')[0])\n"
        "for name, target in kdfuse._NAMES.items():\n"
        "    module, _, attribute = target.partition(':')\n    module = importlib.import_module(module)\n"
        "    assert getattr(kdfuse, name) is (getattr(module, attribute) if attribute else module), name\n"
        "assert set(dir(kdfuse)) == set(kdfuse.__all__)\nprint('well')"
    )
    assert in_fresh_python(code).strip().endswith("well")


# ─ made-up houses


def house(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "kdfuse"
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


FURNITURE = {
    "report.py": "", "settings.py": "", "data.py": "", "runtime.py": "", "train.py": "", "technique.py": "",
    "measure/__init__.py": "from kdfuse.measure.size import size as size\n", "measure/size.py": "size = 1",
    "distill/__init__.py": "", "distill/distill.py": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("report.py", "from kdfuse.data import Data", "report may not import data"),
        ("settings.py", "from kdfuse.report import Report", "settings may not import report"),
        ("settings.py", "def late():\n    from kdfuse.train import Train", "settings may not import train"),
        ("data.py", "import kdfuse.runtime", "data may not import runtime"),
        ("technique.py", "from kdfuse.train import Train", "technique may not import train"),
        ("compress/prune.py", "from kdfuse.distill.distill import Distill", "compress may not import distill"),
        ("train.py", "from kdfuse import Report", "through the __init__ of kdfuse"),
        ("train.py", "import kdfuse", "through the __init__ of kdfuse"),
        ("train.py", "from kdfuse.measure import other", "`other` comes through the __init__ of kdfuse.measure"),
        ("train.py", "from kdfuse.measure.speed import speed", "there is no file of kdfuse.measure.speed"),
        ("train.py", "from .report import Report", "a relative import"),
        ("report.py", "import numpy as np", "numpy does not belong in report"),
        ("train.py", "def late():\n    import mlflow.keras", "mlflow does not belong in train"),
        ("cli/app.py", "import mlflow", "mlflow does not belong in cli"),
        ("tracking/track.py", "from rich import print", "rich does not belong in tracking"),
        ("train.py", "from sklearn import metrics", "sklearn does not belong in train"),
        ("bridge/imports.py", "import tf_keras", "tf_keras is imported inside functions alone"),
        ("data.py", "import pandas", "pandas is no guest"),
        ("distill/distill.py", "student.fit(x)", "`student.fit(`: only train.py"),
        ("distill/__init__.py", "def helper(): ...", "an __init__ only lists names"),
        ("attic/old.py", "", "the room is on no floor"),
        ("data.py", "\n" * 301, "longer than 300 lines"),
        ("measure/size.py", "from kdfuse.measure.size import size", "imports in a circle: measure/size.py > measure/size.py"),
    ],
)  # fmt: skip
def test_the_checker_sees(tmp_path: Path, file: str, text: str, problem: str) -> None:
    found = violations(house(tmp_path, {**FURNITURE, file: text}))
    assert any(problem in line for line in found), found


def test_the_checker_lets_good_files_be(tmp_path: Path) -> None:
    good = {
        "technique.py": "import os\nimport numpy as np\nfrom kdfuse import __version__, report\nfrom kdfuse.measure import size",
        "train.py": "from kdfuse.measure.size import size\nmodel.fit(1)",
        "distill/distill.py": "import keras\nfrom kdfuse.train import Train\nself.training.fit(model)\n",
        "distill/__init__.py": '"""Names."""\n\nfrom kdfuse.distill.distill import Distill as Distill\n\n__all__ = ["Distill"]\n',
        "bridge/imports.py": "def late():\n    import tf_keras\n",
    }
    assert violations(house(tmp_path, {**FURNITURE, **good})) == []


def test_the_checker_sees_a_circle_and_a_missing_test(tmp_path: Path) -> None:
    files = {"graph/a.py": "def late():\n    from kdfuse.graph.b import b", "graph/b.py": "from kdfuse.graph.a import a"}
    package = house(tmp_path, files)
    assert violations(package) == ["imports in a circle: graph/a.py > graph/b.py > graph/a.py"]
    (tmp_path / "tests" / "graph").mkdir(parents=True)
    (tmp_path / "tests" / "graph" / "test_a.py").touch()
    assert without_test(package, tmp_path / "tests") == ["graph/b.py has no tests/graph/test_b.py"]


def test_the_checker_knows_paths_of_machines() -> None:
    slash = "/"
    assert machine_paths(f"a {slash}home/ann/data b") == [f"{slash}home/ann/data"]
    assert machine_paths(f"'{slash}work/main'") == [f"{slash}work/main"]
    assert machine_paths("https://example.org/home/page a/work/b ~/work/x /usr/bin") == []
