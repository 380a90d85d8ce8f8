# SPDX-License-Identifier: Apache-2.0
"""What the watching benchmark prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from watching_cases import APART, INTERVAL, OURS, SPAN, THEIRS, TOGETHER, Case

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watching_cases import Outcome

DIFFERENCE = (
    "Theirs is CustomJobTrigger of the Google provider as it is, except that its client speaks plaintext to the "
    "emulator: a channel for each trigger as there, but without TLS, and gRPC lets such channels share one "
    "connection. Both favour theirs."
)

_THOUSAND, _FIVE_THOUSAND = 1000, 5000
_MOST_READS = {_THOUSAND: 120, _FIVE_THOUSAND: 600}
_LATEST = {APART: 1.2 * INTERVAL + 1, TOGETHER: 3 * INTERVAL}


def figures(outcome: Outcome) -> dict[str, float]:
    """Return the figures of an outcome, by what the table calls them."""
    return {
        "reads a minute, steady": outcome.steady_reads,
        "reads in the busiest minute": outcome.most_reads,
        "CPU seconds a minute, steady": outcome.cpu,
        "peak memory, MiB": outcome.mib,
        "delay, median, s": outcome.delay(50),
        "delay, 95th percentile, s": outcome.delay(95),
        "delay, longest, s": outcome.delay(100),
        "lost events": outcome.lost,
    }


def pairs(outcomes: Mapping[Case, Outcome]) -> list[tuple[Case, Outcome, Outcome | None]]:
    """Return our outcomes, each beside theirs where there is one."""
    return [
        (case, outcome, outcomes.get(Case(case.jobs, case.triggerers, case.ends, THEIRS)))
        for case, outcome in outcomes.items()
        if case.whose == OURS
    ]


def table(outcomes: Mapping[Case, Outcome]) -> Table:
    """Return the comparison."""
    result = Table(title=f"Watching jobs, a look every {INTERVAL:.0f} seconds")
    result.add_column("")
    for column in ("this provider", "Google provider", "theirs / ours"):
        result.add_column(column, justify="right")
    for case, ours, theirs in pairs(outcomes):
        result.add_section()
        result.add_row(
            f"[bold]{case.jobs:,} jobs, {case.triggerers} triggerer{'s' * (case.triggerers > 1)}, "
            f"all ending in {SPAN[case.ends]:.0f} s[/bold]"
        )
        other = figures(theirs) if theirs else {}
        for name, value in figures(ours).items():
            form = "{:,}" if isinstance(value, int) else "{:,.1f}"
            result.add_row(
                f"  {name}",
                form.format(value),
                form.format(other[name]) if name in other else "",
                f"x {other[name] / value:.1f}" if name in other and value else "",
            )
    return result


def targets(outcomes: Mapping[Case, Outcome]) -> list[str]:
    """Return a line for each target that was measured: met or not, and by what."""
    lines = []

    def tell(case: Case, text: str, value: float, limit: float) -> None:
        verdict = "met" if value <= limit else "NOT met"
        lines.append(
            f"Target {verdict}, {case.jobs:,} jobs ending {case.ends}, {case.triggerers} triggerer(s): "
            f"{text}: {value:,.1f}, at most {limit:,.1f}."
        )

    for case, ours, theirs in pairs(outcomes):
        if case.jobs in _MOST_READS:
            tell(case, "reads a minute, steady", ours.steady_reads, _MOST_READS[case.jobs])
            tell(case, "reads in the busiest minute", ours.most_reads, _MOST_READS[case.jobs])
        if case.jobs == _THOUSAND:
            tell(case, "delay of 95 % of the events, s", ours.delay(95), _LATEST[case.ends])
        if theirs is not None:
            tell(case, "peak memory beside the Google provider's, MiB", ours.mib, theirs.mib)
        tell(case, "lost events", ours.lost, 0)
    return lines
