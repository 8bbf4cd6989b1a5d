"""What a simulation was like for those who called, and for those who pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.stopwatch import percentile

if TYPE_CHECKING:
    from bench.fleet.fleet import Run

HOUR_SECONDS = 3600.0


@dataclass(frozen=True)
class Verdict:
    """Seconds are from a request's arrival."""

    num_ended: int
    requests_per_second: float
    first_token_p50: float
    first_token_p99: float
    end_p50: float
    end_p99: float
    gpu_utilization: float
    """Share of their time that engines worked."""
    store_utilization: float
    mean_open: float
    """Requests that waited or ran at a time."""
    max_queue_age: float
    gpu_hours_per_thousand: float
    """For 1,000 requests; by a GPU's price an hour, what they cost."""


def judge(run: Run, warm_up: float = 0.0) -> Verdict:
    """Judge all requests that came after the warm-up, in which queues and caches fill."""
    jobs = [job for job in run.jobs if job.is_ended and job.ask.time >= warm_up]
    ends = [job.ended_at - job.ask.time for job in jobs]
    firsts = [job.first_token_at - job.ask.time for job in jobs]
    seconds = run.jobs[-1].ask.time - warm_up
    return Verdict(
        num_ended=len(jobs),
        requests_per_second=len(jobs) / seconds,
        first_token_p50=percentile(firsts, 50),
        first_token_p99=percentile(firsts, 99),
        end_p50=percentile(ends, 50),
        end_p99=percentile(ends, 99),
        gpu_utilization=run.busy_seconds / run.gpu_seconds,
        store_utilization=run.store_busy_seconds / run.seconds,
        mean_open=sum(ends) / seconds,
        max_queue_age=max((sample.queue_age for sample in run.samples), default=0.0),
        gpu_hours_per_thousand=1000 * run.gpu_seconds / HOUR_SECONDS / max(1, len(run.jobs)),
    )
