"""Who adds and removes replicas: Kubernetes' autoscaler, by the rules of our own manifest.

Source: the algorithm of HorizontalPodAutoscaler v2 as its documentation has it: ratios within a tolerance
change nothing, the largest wish of all figures counts, windows and policies bound what is done at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from bench.fleet.fleet import Sample
from bench.fleet.rollout import end_replica

if TYPE_CHECKING:
    from bench.fleet.clock import Process
    from bench.fleet.fleet import Fleet

MANIFEST = Path(__file__).parents[3] / "k8s/base/components/keda/scaled-object.yaml"
TOLERANCE = 0.1
SYNC_SECONDS = 15.0


@dataclass(frozen=True)
class Policy:
    """How much may change in a period: the most generous policy counts."""

    window_seconds: float
    period_seconds: float
    pods: int
    percent: float = 0.0

    def most(self, before: int) -> int:
        """Return by how many replicas `before` may change."""
        return max(self.pods, math.ceil(before * self.percent / 100))


@dataclass(frozen=True)
class Rules:
    """What the manifest says."""

    least: int
    most: int
    queue_age: float
    """Seconds."""
    busy: float
    """Requests that run or wait in fronts, for each replica."""
    up: Policy
    down: Policy


def read_rules(**changed: Any) -> Rules:
    """Read them from the manifest; `changed` fields are as given."""
    spec = yaml.safe_load(MANIFEST.read_text())["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    thresholds = {trigger["name"]: float(trigger["metadata"]["threshold"]) for trigger in spec["triggers"]}
    read = {
        "least": spec["minReplicaCount"],
        "most": spec["maxReplicaCount"],
        "queue_age": thresholds["queue-age"],
        "busy": thresholds["busy"],
        "up": _read_policy(behavior["scaleUp"]),
        "down": _read_policy(behavior["scaleDown"]),
    }
    return Rules(**{**read, **changed})


def _read_policy(behavior: dict[str, Any]) -> Policy:
    values = {policy["type"]: policy for policy in behavior["policies"]}
    return Policy(
        window_seconds=behavior["stabilizationWindowSeconds"],
        period_seconds=behavior["policies"][0]["periodSeconds"],
        pods=values["Pods"]["value"],
        percent=values.get("Percent", {"value": 0.0})["value"],
    )


class Autoscaler:
    """Looks every 15 seconds."""

    def __init__(self, fleet: Fleet, rules: Rules, start_seconds: float) -> None:
        """Scale `fleet`, whose replicas take so long to start."""
        self._fleet, self._rules, self._start_seconds = fleet, rules, start_seconds
        self.num_wanted = len(fleet.replicas)
        self._wishes: list[tuple[float, int]] = []
        self._changes: list[tuple[float, int]] = []
        fleet.clock.process(self._run())

    def _run(self) -> Process:
        while True:
            self._scale(self._decide())
            self._fleet.run.samples.append(self._sample())
            yield self._fleet.clock.timeout(SYNC_SECONDS)

    def _decide(self) -> int:
        """Return how many replicas there shall be."""
        now, rules = self._fleet.clock.now, self._rules
        self._wishes.append((now, min(rules.most, max(rules.least, self._wish()))))
        self._wishes = [(t, n) for t, n in self._wishes if t >= now - rules.down.window_seconds]
        least_of_late = min(n for t, n in self._wishes if t >= now - rules.up.window_seconds)
        most_of_late = max(n for _, n in self._wishes)
        wanted = min(most_of_late, max(least_of_late, self.num_wanted))
        if wanted > self.num_wanted:
            before = self.num_wanted - self._count_changes(rules.up)
            return min(wanted, max(self.num_wanted, before + rules.up.most(before)))
        before = self.num_wanted - self._count_changes(rules.down)
        return max(wanted, min(self.num_wanted, before - rules.down.most(before)))

    def _wish(self) -> int:
        """Return what the figures of now ask for."""
        fleet, rules = self._fleet, self._rules
        num_ready, num_current = len(fleet.ready), self.num_wanted
        age = fleet.store.age if fleet.store else 0.0
        ratio = age / rules.queue_age
        by_age = num_current if abs(ratio - 1) <= TOLERANCE else math.ceil(num_ready * ratio)
        num_busy = sum(len(replica.jobs) for replica in fleet.replicas)
        ratio = num_busy / rules.busy / num_current
        by_busy = num_current if abs(ratio - 1) <= TOLERANCE else math.ceil(num_busy / rules.busy)
        return max(by_age, by_busy)

    def _count_changes(self, policy: Policy) -> int:
        """Count replicas that were added (or, below 0, removed) in the policy's period."""
        since = self._fleet.clock.now - policy.period_seconds
        changes = [number for time, number in self._changes if time > since]
        is_up = policy is self._rules.up
        return sum(number for number in changes if (number > 0) == is_up)

    def _scale(self, wanted: int) -> None:
        change, self.num_wanted = wanted - self.num_wanted, wanted
        if change:
            self._changes.append((self._fleet.clock.now, change))
        for _ in range(change):
            self._fleet.add(self._start_seconds)
        # Those that are not ready go first, as Kubernetes has it, then the newest.
        staying = [replica for replica in self._fleet.replicas if not replica.is_ending]
        for replica in sorted(staying, key=lambda replica: (replica.is_taking, -replica.number))[
            : max(0, -change)
        ]:
            self._fleet.clock.process(end_replica(self._fleet, replica))

    def _sample(self) -> Sample:
        fleet = self._fleet
        age = fleet.store.age if fleet.store else 0.0
        return Sample(fleet.clock.now, self.num_wanted, len(fleet.ready), age, fleet.num_open)
