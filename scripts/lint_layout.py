"""Checks the rules of the design that no other tool knows: sizes, names, and where certain things may happen.

A rule holds only where a tool checks it. A line may be excused: `# layout: <rule> - <why>`.
Usage: python scripts/lint_layout.py [ROOT]
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PYTHON_FOLDERS = ("app", "workers", "migrations", "scripts", "tests")
MODULE_LINES, TEST_MODULE_LINES, FUNCTION_LINES, SQL_LINES, DOCSTRING_LINES = 400, 500, 60, 50, 4
VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "shared", "stuff"}
ENTRY_POINTS = ("app/cli/", "app/main.py", "app/client/_command.py", "workers/__main__.py", "scripts/")
EXECUTES = {"execute", "executemany", "exec_driver_sql", "text", "copy", "stream"}
EXCUSE = re.compile(r"#\s*layout:\s*(?P<rule>[a-z-]+)\s*-\s*\S")


@dataclass(frozen=True)
class Finding:
    """One broken rule: where, which, and in words the harm and the way out."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


@dataclass(frozen=True)
class Module:
    """A Python file, parsed once for all rules."""

    path: str
    lines: list[str]
    tree: ast.Module

    @property
    def is_test(self) -> bool:
        """Whether it belongs to the tests."""
        return self.path.startswith("tests/")


Found = Iterator[tuple[int, str, str]]


def module_size(module: Module) -> Found:
    """A file that nobody reads to its end hides its bugs."""
    limit = TEST_MODULE_LINES if module.is_test else MODULE_LINES
    if len(module.lines) > limit:
        yield (
            limit,
            "module-size",
            f"{len(module.lines)} lines, at most {limit}: split it by idea, not by number",
        )


def function_size(module: Module) -> Found:
    """A function longer than a screen is read in pieces and changed by guess."""
    for node in functions(module.tree):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES:
            message = (
                f"{node.name} has {length} lines, at most {FUNCTION_LINES}: name its steps and call them"
            )
            yield node.lineno, "function-size", message


def module_name(module: Module) -> Found:
    """A vague name attracts everything and says nothing."""
    stem = Path(module.path).stem
    if stem in VAGUE and module.path != "migrations/helpers.py":
        yield 1, "module-name", f"'{stem}' tells nobody what is inside: name the file for the idea it holds"


def module_docstring(module: Module) -> Found:
    """The first lines decide whether a reader is in the right file."""
    text = ast.get_docstring(module.tree)
    if text is None:
        if module.tree.body:
            yield 1, "module-docstring", "begin with one to four lines: what it is, and what it is not"
        return
    count = sum(1 for line in text.splitlines() if line.strip())
    if count > DOCSTRING_LINES:
        message = (
            f"{count} lines, at most {DOCSTRING_LINES}: say what it is here, and the rest where it happens"
        )
        yield 1, "module-docstring", message


def late_import(module: Module) -> Found:
    """An import inside a function hides a dependency from readers and from the layer check's intent."""
    if module.is_test or module.path.startswith(ENTRY_POINTS):
        return
    for function in functions(module.tree):
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield (
                    node.lineno,
                    "late-import",
                    "only entry points import inside functions (to start fast): move it to the top; "
                    "if that makes a circle, something belongs in another layer",
                )


def commit_in_domain(module: Module) -> Found:
    """Whoever opened the transaction ends it; a commit below tears event and job apart."""
    if not module.path.startswith("app/domains/"):
        return
    for node in calls(module.tree):
        if isinstance(node.func, ast.Attribute) and node.func.attr == "commit":
            message = (
                "a domain never commits: its caller's transaction also holds the job; let the caller commit"
            )
            yield node.lineno, "commit-in-domain", message


def sleep_in_test(module: Module) -> Found:
    """A sleep is too short on a busy machine and too long on every other one."""
    if not module.is_test or module.path == "tests/support/waiting.py":
        return
    for node in calls(module.tree):
        if called(node) == "sleep" and not zero(node):
            message = "wait for what you mean with `eventually(...)` from tests.support.waiting"
            yield node.lineno, "sleep-in-test", message


def built_sql(module: Module) -> Found:
    """SQL put together from strings is how injections happen, and no plan is ever used twice."""
    for node in calls(module.tree):
        if called(node) in EXECUTES and node.args and is_built(node.args[0]):
            message = "pass values as parameters and names with psycopg.sql.Identifier, never by formatting"
            yield node.lineno, "built-sql", message


def environment(module: Module) -> Found:
    """Settings read in many places cannot be listed, checked or documented."""
    if not module.path.startswith(("app/", "workers/")) or module.path == "app/config.py":
        return
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in {"environ", "getenv"}
            and name_of(node.value) == "os"
        ):
            message = (
                "only app/config.py reads the environment: add a setting there and take it as an argument"
            )
            yield node.lineno, "environment", message


def client_alone(module: Module) -> Found:
    """The client is installed as another package, where `app` does not exist."""
    if not module.path.startswith("app/client/"):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        if any(name.split(".")[0] in {"app", "tandem", "workers"} for name in names):
            yield (
                node.lineno,
                "client-alone",
                "inside the client import relatively: it is installed as `tandem`",
            )


RULES: list[Callable[[Module], Found]] = [
    module_size,
    function_size,
    module_name,
    module_docstring,
    late_import,
    commit_in_domain,
    sleep_in_test,
    built_sql,
    environment,
    client_alone,
]


def sql_files(root: Path) -> Iterator[Finding]:
    """Statement files: short, with explicit columns, named like the method that runs them."""
    stored = store_methods(root)
    for file in sorted((root / "sql").rglob("*.sql")):
        path = file.relative_to(root).as_posix()
        frozen = path == "sql/schema.sql" or path.startswith("sql/migrations/")
        lines = file.read_text().splitlines()
        if not frozen and len(lines) > SQL_LINES:
            message = f"{len(lines)} lines, at most {SQL_LINES}: a statement that long does two things"
            yield Finding(path, SQL_LINES, "sql-size", message)
        if not path.startswith("sql/queries/"):
            continue
        bare = re.sub(r"--.*", "", file.read_text())
        if star := re.search(r"(?i)\b(select|returning)\s+(distinct\s+)?(\w+\.)?\*|,\s*\w+\.\*", bare):
            message = "name the columns: a prepared SELECT * breaks the moment a migration adds one"
            yield Finding(path, bare[: star.start()].count("\n") + 1, "select-star", message)
        if stored and file.stem not in stored:
            message = (
                f"no store has a method {file.stem}: file, method and verb share one name, or nobody finds it"
            )
            yield Finding(path, 1, "sql-name", message)


def store_methods(root: Path) -> set[str]:
    """Names of the functions in the files that execute statements; empty while there is no store.

    And what is asked for with statement(area, name), where one statement serves several kinds of connections.
    """
    found: set[str] = set()
    stores = ("store.py", "*_store.py", "repository.py")
    for file in (file for name in stores for file in (root / "app").rglob(name)):
        found |= {node.name for node in functions(ast.parse(file.read_text()))}
    for file in (root / "app").rglob("*.py") if found else ():
        for node in calls(ast.parse(file.read_text())):
            if called(node) == "statement":
                found |= {part.value for part in node.args if is_text(part)}  # type: ignore[attr-defined]
    return found


def check(root: Path) -> list[Finding]:
    """Every broken rule below `root`, in the order of the files."""
    findings: list[Finding] = []
    for folder in PYTHON_FOLDERS:
        for file in sorted((root / folder).rglob("*.py")):
            path = file.relative_to(root).as_posix()
            text = file.read_text()
            module = Module(path, text.splitlines(), ast.parse(text, filename=path))
            for rule in RULES:
                found = (Finding(path, *facts) for facts in rule(module))
                findings += [one for one in found if not excused(module, one)]
    return findings + list(sql_files(root))


def excused(module: Module, finding: Finding) -> bool:
    """Whether the line, or the one above it, carries an excuse for this rule."""
    for number in (finding.line - 1, finding.line - 2):
        if 0 <= number < len(module.lines) and (match := EXCUSE.search(module.lines[number])):
            return match["rule"] == finding.rule
    return False


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function, however deep."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def called(node: ast.Call) -> str:
    """The last part of the name that is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else name_of(node.func)


def name_of(node: ast.AST) -> str:
    """A plain name, or nothing."""
    return node.id if isinstance(node, ast.Name) else ""


def zero(node: ast.Call) -> bool:
    """sleep(0) gives way to others and waits for nothing."""
    return bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0


def is_built(node: ast.AST) -> bool:
    """Whether an argument is text made at run time: an f-string with values, +, % or .format on a string."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return any(is_text(side) or is_built(side) for side in (node.left, node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return is_text(node.func.value)
    return False


def is_text(node: ast.AST) -> bool:
    """Whether it is a string literal."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def main() -> None:
    """Print what is broken; exit code 1 if anything is."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    findings = check(root)
    for finding in findings:
        print(finding)
    if findings:
        sys.exit(f"{len(findings)} findings; a line is excused by `# layout: <rule> - <why>`")


if __name__ == "__main__":
    main()
