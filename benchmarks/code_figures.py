"""Figures of the code itself: how long functions are, how dense lines are.

    python -m benchmarks.code_figures farm tasks

Lines of a function exclude its docstring. Tokens exclude comments and docstrings. Lines that hold
brackets only do not count as lines when tokens a line are computed. Rates are per 1,000 lines that
are not blank, the share of long lines is of all lines.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

COLUMNS = 100
LONG_FUNCTION = 25
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Figures:
    files: int = 0
    lines: int = 0
    filled_lines: int = 0
    long_lines: int = 0
    comments: int = 0
    parallel_assignments: int = 0
    conditional_expressions: int = 0
    function_lines: list[int] = field(default_factory=list)
    function_tokens: list[int] = field(default_factory=list)
    code_lines: int = 0
    """Lines of functions that hold more than brackets."""

    def add(self, text: str) -> None:
        """Adds the figures of one module."""
        lines = text.splitlines()
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
        self.files += 1
        self.lines += len(lines)
        self.filled_lines += sum(bool(line.strip()) for line in lines)
        self.long_lines += sum(len(line) > COLUMNS for line in lines)
        self.comments += sum(token.type == tokenize.COMMENT for token in tokens)
        for node in ast.walk(ast.parse(text)):
            self.parallel_assignments += _is_parallel(node)
            self.conditional_expressions += isinstance(node, ast.IfExp)
            if isinstance(node, Function):
                self._add_function(node, tokens)

    def _add_function(self, node: Function, tokens: Sequence[tokenize.TokenInfo]) -> None:
        docstring = _docstring_lines(node)
        end = node.end_lineno or node.lineno
        body = [
            token
            for token in tokens
            if node.lineno <= token.start[0] <= end
            and token.start[0] not in docstring
            and token.type not in LAYOUT
        ]
        self.function_lines.append(end - node.lineno + 1 - len(docstring))
        self.function_tokens.append(len(body))
        self.code_lines += len({token.start[0] for token in body if token.type != tokenize.OP})

    def table(self) -> Iterator[tuple[str, str]]:
        """Each figure with its name."""
        functions = sorted(self.function_lines)
        tokens = self.function_tokens
        ninetieth = functions[int(0.9 * len(functions))]
        yield "files; lines", f"{self.files}; {self.lines:,}"
        yield (
            "function lines mean / median / p90 / longest",
            f"{mean(functions):.1f} / {median(functions):g} / {ninetieth} / {functions[-1]}",
        )
        yield (
            f"functions; over {LONG_FUNCTION} lines",
            f"{len(functions)}; {sum(each > LONG_FUNCTION for each in functions)}",
        )
        yield "tokens a function mean / median", f"{mean(tokens):.0f} / {median(tokens):.0f}"
        yield "tokens a line in functions", f"{sum(tokens) / self.code_lines:.1f}"
        yield "parallel assignments", self._rate(self.parallel_assignments)
        yield "conditional expressions", self._rate(self.conditional_expressions)
        yield "comments", self._rate(self.comments)
        yield f"lines over {COLUMNS} columns", f"{self.long_lines / self.lines:.1%}"

    def _rate(self, count: int) -> str:
        return f"{1000 * count / self.filled_lines:.1f} ({count})"


def figures(paths: Sequence[Path]) -> Figures:
    """The figures of all modules in files and folders."""
    found = Figures()
    for path in paths:
        for module in [path] if path.is_file() else sorted(path.rglob("*.py")):
            found.add(module.read_text())
    return found


def _is_parallel(node: ast.AST) -> bool:
    """Whether a statement is of the form `a, b = x, y`."""
    if not isinstance(node, ast.Assign):
        return False
    return isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)


def _docstring_lines(node: Function) -> set[int]:
    if ast.get_docstring(node) is None:
        return set()
    first = node.body[0]
    return set(range(first.lineno, (first.end_lineno or first.lineno) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path)
    for name, value in figures(parser.parse_args().paths).table():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
