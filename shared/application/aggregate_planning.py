"""The aggregates of one view, with the names of their features; every mistake is found here, with file and line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from tidemill.shared.application.document import Document
from tidemill.shared.application.expressions import Expression, ExpressionError, compile_expression
from tidemill.shared.application.file_expressions import FileExpressions
from tidemill.shared.application.plan import ACCUMULATED, EVER, AggregatePlan, Kind, StreamPlan, WindowPlan
from tidemill.shared.application.values import parse_half_life
from tidemill.shared.application.view_definition import View
from tidemill.shared.application.window_planning import half_life_text

Path_ = Sequence[str | int]
_WITHOUT_VALUE = ("count", "rate", "distinct", "time_since_first", "time_since_last", "decayed_count")
_WITH_ARGUMENT = ("distinct", "quantile", "lag", "ratio", "decayed_sum", "decayed_count", "decayed_mean")


@dataclass(frozen=True, slots=True)
class AggregatePlanner:
    """Plans the `aggregate` list of one view; `value` is the view's own."""

    document: Document
    expressions: FileExpressions
    view_name: str
    view: View
    source: StreamPlan
    value: Expression | None
    windows: Sequence[WindowPlan]

    def plans(self) -> Iterator[AggregatePlan]:
        """Yield one plan per feature; ratios come last, they name other features."""
        ratios = []
        for i, item in enumerate(self.view.aggregate):
            path: Path_ = ("views", self.view_name, "aggregate", i)
            if isinstance(item, dict) and len(item) != 1:
                raise self.document.error(path, "one aggregate an entry, e.g. {lag: 3}", str(dict(item)))
            kind, argument = (item, None) if isinstance(item, str) else next(iter(item.items()))
            if kind not in (*ACCUMULATED, *EVER, "ratio"):
                raise self.document.error(path, f"one of the aggregates {', '.join((*ACCUMULATED, *EVER, 'ratio'))}", str(kind))
            if argument is None and kind in _WITH_ARGUMENT:
                raise self.document.error(path, _EXAMPLES[kind], str(kind))
            if argument is not None and kind in ACCUMULATED and kind not in _WITH_ARGUMENT:
                raise self.document.error(path, f"{kind} by itself", str(dict(item)) if isinstance(item, dict) else str(item))
            if kind == "ratio":
                ratios.append((argument, path))
            elif kind in ACCUMULATED:
                yield from self._windowed(cast(Kind, kind), argument, path)
            else:
                yield from self._ever(cast(Kind, kind), argument, path)
        for argument, path in ratios:
            yield self._ratio(argument, path)

    def _windowed(self, kind: Kind, argument: Any, path: Path_) -> Iterator[AggregatePlan]:
        if not self.windows:
            raise self.document.error(path, f"windows for {kind}, e.g. windows: [3h, 7d, all]", "none")
        value = self.value
        label: str = kind
        arguments: list[float] = [0.0]
        if kind == "distinct":
            value = self._any(str(argument), path)
            label = f"distinct_{argument}" if str(argument).isidentifier() else "distinct"
        elif kind == "quantile":
            arguments = self._numbers(argument, path, "quantile: a number or numbers between 0 and 1")
            if any(not 0.0 <= number <= 1.0 for number in arguments):
                raise self.document.error(path, "quantiles between 0 and 1", str(argument))
        if kind not in _WITHOUT_VALUE:
            self._needs_value(value, kind, path)
        for number in arguments:
            named = f"quantile_{number:g}".replace(".", "_") if kind == "quantile" else label
            for window in self.windows:
                plan = AggregatePlan(kind, f"{self.view_name}__{named}_{window.text}", window, argument=number)
                yield plan if kind in ("count", "rate") else _with_value(plan, value)

    def _ever(self, kind: Kind, argument: Any, path: Path_) -> Iterator[AggregatePlan]:
        name = f"{self.view_name}__{kind}"
        if kind in ("time_since_first", "time_since_last"):
            yield AggregatePlan(kind, name)
        elif kind in ("first", "last"):
            own = self.expressions.number(str(argument), self.source.entry_arrow, path) if argument is not None else self.value
            self._needs_value(own, kind, path)
            yield AggregatePlan(kind, name, value=own)
        elif kind == "lag":
            self._needs_value(self.value, kind, path)
            for number in self._numbers(argument, path, "lag: how many values back, e.g. {lag: 3} or {lag: [1, 2, 3]}"):
                if number < 1 or number > 64 or number != int(number):
                    raise self.document.error(path, "a whole number from 1 to 64", str(argument))
                yield AggregatePlan(kind, f"{name}_{int(number)}", value=self.value, argument=number)
        else:
            yield from self._decayed(kind, argument, path)

    def _decayed(self, kind: Kind, argument: Any, path: Path_) -> Iterator[AggregatePlan]:
        given = argument.get("half_life") if isinstance(argument, dict) and set(argument) == {"half_life"} else None
        try:
            half_lives = [parse_half_life(text) for text in (given if isinstance(given, list) else [given])]
        except ValueError as error:
            raise self.document.error(path, f"{kind}: {{half_life: a duration or a number of events}}", str(argument)) from error
        if kind != "decayed_count":
            self._needs_value(self.value, kind, path)
        for duration, events in half_lives:
            yield AggregatePlan(
                kind, f"{self.view_name}__{kind}_{half_life_text(duration, events)}",
                half_life_ms=duration, half_life_events=events, value=self.value if kind != "decayed_count" else None,
            )  # fmt: skip

    def _ratio(self, argument: Any, path: Path_) -> AggregatePlan:
        if not isinstance(argument, list) or len(argument) != 2 or not all(isinstance(name, str) for name in argument):
            raise self.document.error(path, _EXAMPLES["ratio"], str(argument))
        operands = tuple(name if "__" in name else f"{self.view_name}__{name}" for name in argument)
        text = "_per_".join(name.removeprefix(f"{self.view_name}__") for name in operands)
        return AggregatePlan("ratio", f"{self.view_name}__ratio_{text}", operands=operands)

    def _numbers(self, argument: Any, path: Path_, expected: str) -> list[float]:
        given = argument if isinstance(argument, list) else [argument]
        if not given or any(isinstance(number, bool) or not isinstance(number, int | float) for number in given):
            raise self.document.error(path, expected, str(argument))
        return [float(number) for number in given]

    def _any(self, sql: str, path: Path_) -> Expression:
        try:
            return compile_expression(sql, self.source.entry_arrow)
        except ExpressionError as error:
            raise self.document.error(path, f"a SQL expression over the columns of {self.source.name}", f"{sql!r}: {error}") from error

    def _needs_value(self, value: Expression | None, kind: str, path: Path_) -> None:
        if value is None:
            raise self.document.error(path, f"a `value:` for {kind}", "none")


_EXAMPLES: Mapping[str, str] = {
    "distinct": "what is to be counted, e.g. {distinct: merchant_id}",
    "quantile": "which, e.g. {quantile: [0.5, 0.95]}",
    "lag": "how many values back, e.g. {lag: 1}",
    "ratio": "two features, e.g. {ratio: [sum_1h, sum_24h]}",
    "decayed_sum": "a half-life, e.g. {decayed_sum: {half_life: 6h}}",
    "decayed_count": "a half-life, e.g. {decayed_count: {half_life: 6h}}",
    "decayed_mean": "a half-life, e.g. {decayed_mean: {half_life: 30 events}}",
}


def _with_value(plan: AggregatePlan, value: Expression | None) -> AggregatePlan:
    return AggregatePlan(plan.kind, plan.feature, plan.window, value=value, argument=plan.argument)
