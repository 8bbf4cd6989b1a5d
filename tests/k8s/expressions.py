"""Reads PromQL, and says what is wrong with it before any Prometheus sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import promql_parser
from k8s.declared_metrics import TARGET_LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GRAFANA = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}


def find_faults(text: str, known: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield what is wrong with an expression of which `known` maps each metric to its labels."""
    for variable, value in _GRAFANA.items():
        text = text.replace(variable, value)
    try:
        expression = promql_parser.parse(text)
    except ValueError as error:
        yield f"cannot be parsed: {error}: {' '.join(text.split())}"
        return
    for name, labels in _find_selectors(expression):
        if name not in known:
            yield f"there is no metric {name}"
        else:
            unknown = labels - known[name] - TARGET_LABELS
            yield from (f"the metric {name} has no label {label}" for label in sorted(unknown))


def _find_selectors(expression: Any) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each metric's name, with the labels that are asked of it."""
    for part in _walk(expression):
        if isinstance(part, promql_parser.VectorSelector):
            matchers = {matcher.name: matcher.value for matcher in part.matchers.matchers}
            name = part.name or matchers.pop("__name__", "")
            yield name, frozenset(matchers)


def _walk(part: Any) -> Iterator[Any]:
    """Yield all parts of an expression: the parser's own walk does not enter all of them."""
    yield part
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(part, name, None)
        if isinstance(child, promql_parser.Expr | promql_parser.VectorSelector):
            yield from _walk(child)
    for child in getattr(part, "args", None) or ():
        yield from _walk(child)
