"""The fleet on paper keeps the laws that real ones keep."""

from __future__ import annotations

import dataclasses
import itertools
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import simpy
from bench.fleet import calibration, check, gpus, parts, rollout, sizing, store
from bench.fleet.autoscaler import Autoscaler, read_rules
from bench.fleet.calibration import fit
from bench.fleet.cores import Cores, Line, SharedCores
from bench.fleet.engine import Stretch
from bench.fleet.fleet import Fleet
from bench.fleet.judge import judge
from bench.fleet.loads import make_calibration_loads
from bench.fleet.mixes import CATALOGUE, DOCUMENTS, MIXES, PHOTOS
from bench.fleet.parts import Capacities, find_largest_cell, find_parts
from bench.fleet.pictures import FULL_SIZING, TINY_SIZING, Picture, count_crops, count_image_tokens
from bench.fleet.profile import Profile, read_profile
from bench.fleet.rollout import lose_gpu, lose_gpus, roll_out
from bench.fleet.sizing import CannotBeKept, Setting, Wish, find_gpus, try_out
from bench.fleet.store import StoreTimes
from bench.fleet.surroundings import ALONE, PaceMeter, Surroundings, find_usual
from bench.fleet.traffic import Ask, bursts, diurnal, draw_traffic, make_dice, on_off, steady
from bench.fleet.trials import Observed, Trial, simulate
from idefics2_engine.config import _MESSAGES_PER_CORE, EngineConfig
from idefics2_engine.crops import cut
from idefics2_engine.pictures import Picture as Decoded
from idefics2_service import runs, workers
from idefics2_service.settings import Settings
from pictures import NUM_IMAGE_TOKENS, NUM_PATCHES, NUM_SPLIT_IMAGE_TOKENS
from PIL import Image
from processes import patience

if TYPE_CHECKING:
    from bench.fleet.clock import Process
    from bench.fleet.loads import Load
    from idefics2_engine.images import Sizing

ROOT = Path(__file__).parents[2]
STORE = StoreTimes(write_seconds=0.0003, answer_seconds=0.001)
CAPACITIES = Capacities(
    store_writes=3_000, store_answer_seconds=0.001, front_polls=500, front_s3_bytes=3e7, kept_bytes=4_000
)
SMALL = Picture(100, 100, split=False, num_bytes=1_000)
STEP_SECONDS = 0.001


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search with fewer requests than figures need."""
    monkeypatch.setattr(sizing, "MIN_REQUESTS", 300)
    monkeypatch.setattr(sizing, "MIN_SECONDS", 40.0)
    monkeypatch.setattr(sizing, "PRECISION", 0.1)


@pytest.fixture(scope="module")
def profile() -> Profile:
    """A GPU's, by estimate."""
    return read_profile("h100").profile


@pytest.fixture(scope="module")
def plain(profile: Profile) -> Profile:
    """One request at a time, and each step as long as any other: a counter with one clerk."""
    points = ((0, STEP_SECONDS), (1_000, STEP_SECONDS))
    beside = ("context_seconds", "reading_step_seconds", "host_seconds", "megapixel_seconds", "way_seconds")
    nothing: dict[str, Any] = dict.fromkeys((*beside, *gpus.LOOK_FIGURES), 0.0)
    return dataclasses.replace(profile, token_points=points, num_slots=1, max_turns=1_000_000, **nothing)


def make_fleet(profile: Profile, num_gpus: int, *, has_store: bool = True) -> Fleet:
    """Make one that is ready."""
    fleet = Fleet(profile, STORE if has_store else None, seed=1)
    for _ in range(num_gpus):
        fleet.add()
    return fleet


def ask_plainly(rate: float, number: int, mean_tokens: float, *, is_exact: bool) -> list[Ask]:
    """Arrive by chance; answers are all of one length, or as long as chance has it."""
    dice = random.Random(5)  # noqa: S311  # not a secret
    times = itertools.accumulate(dice.expovariate(rate) for _ in range(number))
    return [
        Ask(
            n,
            time,
            SMALL,
            n,
            n,
            20,
            round(mean_tokens if is_exact else 1 + dice.expovariate(1 / mean_tokens)),
        )
        for n, time in enumerate(times)
    ]


@pytest.mark.parametrize("sizing", [FULL_SIZING, TINY_SIZING])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("size", [(640, 480), (1, 700), (1111, 313), (97, 1024)])
def test_a_picture_has_as_many_patches_as_the_engine_cuts(
    size: tuple[int, int], *, split: bool, sizing: Sizing
) -> None:
    crops = cut(Decoded(Image.new("RGB", (max(size[0], 2), size[1]))), sizing, split=split)
    expected = tuple(len(crop.patches) for crop in crops)
    assert count_crops(Picture(*size, split=split, num_bytes=0), sizing) == expected


def test_a_picture_has_as_many_tokens_as_the_embedded_checkpoint_reads() -> None:
    assert count_crops(Picture(200, 150, split=False, num_bytes=0), TINY_SIZING) == (NUM_PATCHES,)
    assert count_image_tokens(1, 36) == NUM_IMAGE_TOKENS
    assert count_image_tokens(5, 36) == NUM_SPLIT_IMAGE_TOKENS


def test_the_same_seed_asks_the_same_and_finds_the_same(profile: Profile) -> None:
    verdicts = []
    for _ in range(2):
        asks = draw_traffic(bursts(4, 20, 10, 2), CATALOGUE, 40, seed=3)
        fleet = make_fleet(profile, 2)
        fleet.clock.process(lose_gpu(fleet, 20, 10))
        verdicts.append(judge(fleet.go(asks)))
    assert verdicts[0] == verdicts[1]
    assert draw_traffic(steady(5), PHOTOS, 20, 1) != draw_traffic(steady(5), PHOTOS, 20, 2)


def test_patterns_have_the_rates_that_they_say() -> None:
    in_a_day = draw_traffic(diurnal(1, 9, period=600), PHOTOS, 600, 1)
    noon = [ask for ask in in_a_day if 240 <= ask.time < 360]
    assert len(in_a_day) / 600 == pytest.approx(5, rel=0.1)
    assert len(noon) / 120 == pytest.approx(8.7, rel=0.15)
    assert all(ask.time % 30 < 10 for ask in draw_traffic(on_off(5, 10, 20), PHOTOS, 300, 1))


def test_many_steps_at_once_take_as_long_as_one_after_the_other() -> None:
    many = Stretch(1, 0.01, 0.01, 0.0003).shorten(50)
    assert many.seconds == pytest.approx(sum(0.01 + 0.0003 * step for step in range(50)))
    for elapsed in (0.0, 0.001, 0.3, many.seconds):
        cut_off = many.cut(elapsed)
        assert cut_off.seconds >= elapsed - 1e-9
        assert cut_off.num_steps == 1 or many.shorten(cut_off.num_steps - 1).seconds < elapsed


def test_who_joins_at_any_time_delays_those_who_run_by_what_is_read_for_it_alone(plain: Profile) -> None:
    two_slots = dataclasses.replace(plain, num_slots=2)
    first = Ask(0, 0.0, SMALL, 0, 0, 20, 100)
    late = Ask(1, 0.0317, SMALL, 1, 1, 20, 10)
    jobs = make_fleet(two_slots, 1, has_store=False).go([first, late]).jobs
    assert jobs[0].ended_at == pytest.approx(100 * STEP_SECONDS)
    assert jobs[1].ended_at == pytest.approx(0.032 + 10 * STEP_SECONDS)


def test_one_clerk_is_as_slow_as_queueing_theory_says(plain: Profile) -> None:
    rate, mean = 6.0, 100
    busy = rate * mean * STEP_SECONDS
    exact = make_fleet(plain, 1, has_store=False).go(ask_plainly(rate, 3_000, mean, is_exact=True))
    by_chance = make_fleet(plain, 1, has_store=False).go(ask_plainly(rate, 3_000, mean, is_exact=False))
    service = mean * STEP_SECONDS
    seconds = [statistics.mean(job.ended_at - job.ask.time for job in run.jobs) for run in (exact, by_chance)]
    assert seconds[0] == pytest.approx(service * (1 + busy / (2 * (1 - busy))), rel=0.08)  # M/D/1
    assert seconds[1] == pytest.approx(service / (1 - busy), rel=0.1)  # M/M/1


def test_who_is_there_is_how_many_come_times_how_long_they_stay(profile: Profile) -> None:
    asks = draw_traffic(steady(4), DOCUMENTS, 200, 4)
    fleet = make_fleet(profile, 1)
    counts: list[int] = []

    def count() -> Process:
        while True:
            counts.append(fleet.num_open - 1)  # the traffic itself is counted, too
            yield fleet.clock.timeout(0.1)

    fleet.clock.process(count())
    run = fleet.go(asks)
    stayed = sum(job.ended_at - job.ask.time for job in run.jobs)
    assert statistics.mean(counts) == pytest.approx(stayed / run.seconds, rel=0.03)


def test_more_gpus_are_never_worse(profile: Profile) -> None:
    setting = Setting(profile, DOCUMENTS, STORE)
    ends = [try_out(setting, num_gpus, 6.0).verdict.end_p99 for num_gpus in (1, 2, 4)]
    assert ends[1] < ends[0] * 1.02
    assert ends[2] < ends[1] * 1.02


def test_what_is_known_already_is_faster(profile: Profile) -> None:
    asks = draw_traffic(steady(4), CATALOGUE, 60, 1)
    anew = [dataclasses.replace(ask, image=-ask.number - 1) for ask in asks]
    known, unknown = (judge(make_fleet(profile, 1).go(some)) for some in (asks, anew))
    assert known.first_token_p50 < 0.5 * unknown.first_token_p50


def test_neither_a_lost_gpu_nor_a_rollout_loses_a_request(profile: Profile) -> None:
    asks = draw_traffic(steady(8), DOCUMENTS, 120, 2)
    fleet = make_fleet(profile, 3)
    fleet.clock.process(lose_gpu(fleet, 30, 40))
    fleet.clock.process(roll_out(fleet, 60, 10))
    run = fleet.go(asks, 300)
    assert len(run.jobs) == len(asks)
    assert all(job.is_ended for job in run.jobs)
    assert run.num_failed == 0
    assert any(job.num_attempts == 2 for job in run.jobs)
    assert len(fleet.replicas) == 0


def test_a_gpu_that_is_lost_while_it_is_replaced_loses_no_request(profile: Profile) -> None:
    asks = draw_traffic(steady(4), PHOTOS, 100, 2)
    fleet = make_fleet(profile, 1)
    fleet.clock.process(roll_out(fleet, 20, 15))
    fleet.clock.process(lose_gpu(fleet, 25, 40))
    assert all(job.is_ended for job in fleet.go(asks).jobs)


def test_gpus_that_are_lost_again_and_again_cost_time_and_at_most_a_few_requests(profile: Profile) -> None:
    asks = draw_traffic(steady(4), PHOTOS, 200, 2)
    calm, unlucky = make_fleet(profile, 3), make_fleet(profile, 3)
    unlucky.clock.process(lose_gpus(unlucky, make_dice(1), seconds_between=60.0, repair_seconds=10.0))
    calm_run, unlucky_run = calm.go(asks), unlucky.go(asks)
    assert sum(job.is_ended for job in unlucky_run.jobs) + unlucky_run.num_failed == len(asks)
    assert any(job.num_attempts > 1 for job in unlucky_run.jobs)
    assert judge(unlucky_run).end_p99 > judge(calm_run).end_p99


def test_a_request_that_is_lost_three_times_ends_with_an_error(plain: Profile) -> None:
    fleet = make_fleet(plain, 1)
    for number in range(3):
        fleet.clock.process(lose_gpu(fleet, 10 + 30 * number, 5))
    run = fleet.go([Ask(0, 0.0, SMALL, 0, 0, 20, 10_000_000)])
    assert run.num_failed == 1


def test_the_autoscaler_follows_the_manifest_up_and_down(profile: Profile) -> None:
    rules = read_rules()
    fleet = make_fleet(profile, rules.least)
    Autoscaler(fleet, rules, start_seconds=120)
    run = fleet.go(draw_traffic(bursts(0.2, 24, 10_000, 400), DOCUMENTS, 500, 1), 3_600)
    wanted = [sample.num_wanted for sample in run.samples]
    assert max(wanted) > rules.least
    assert max(wanted) <= rules.most
    assert wanted[-1] == rules.least
    assert run.samples[-1].num_ready == rules.least
    assert all(job.is_ended for job in run.jobs)
    steps = [(b.time, b.num_wanted - a.num_wanted) for a, b in itertools.pairwise(run.samples)]
    downs = [time for time, change in steps if change < 0]
    assert all(change >= -1 for _, change in steps)
    assert all(later - earlier >= rules.down.period_seconds for earlier, later in itertools.pairwise(downs))


def test_more_traffic_takes_more_gpus_and_cells_stay_small(profile: Profile) -> None:
    setting, wish = Setting(profile, DOCUMENTS, STORE), Wish(15.0)
    few_cells, few = find_gpus(setting, 4.0, wish, max_cell=2)
    many_cells, many = find_gpus(setting, 14.0, wish, max_cell=2)
    assert few_cells * few.num_gpus < many_cells * many.num_gpus
    assert many.num_gpus <= 2
    assert wish.is_kept(many.verdict)


def test_a_wish_that_no_gpu_can_keep_is_refused(profile: Profile) -> None:
    with pytest.raises(CannotBeKept, match=r"longer than 0\.001 s"):
        find_gpus(Setting(profile, PHOTOS, STORE), 5.0, Wish(0.001), max_cell=3)


def test_what_all_gpus_of_a_cell_share_breaks_first_where_there_are_many(profile: Profile) -> None:
    cell = try_out(Setting(profile, DOCUMENTS, STORE), 2, 8.0)
    most = find_largest_cell(cell, DOCUMENTS, CAPACITIES)
    uses = {part.name: part.use for part in find_parts(cell.stretch(most), DOCUMENTS, CAPACITIES)}
    shared = [part for part in find_parts(cell.stretch(10 * most), DOCUMENTS, CAPACITIES) if part.is_shared]
    assert find_parts(cell.stretch(10 * most), DOCUMENTS, CAPACITIES)[0] == shared[0]
    assert all(part.use == pytest.approx(10 * uses[part.name]) for part in shared)
    assert max(uses[part.name] for part in shared) <= 0.6


def test_each_figure_of_a_profile_says_where_it_comes_from() -> None:
    for name in ("h100", "tiny", "tiny_guess"):
        file = read_profile(name)
        assert set(file.sources) == {field.name for field in dataclasses.fields(Profile)}
        assert all(file.sources.values())
    assert not read_profile("h100").is_measured


def test_the_simulation_counts_with_what_is_set() -> None:
    manifest = (ROOT / "k8s/base/settings.env").read_text()
    assert f"IDEFICS2_GRPC_DRAIN_DELAY_SECONDS={rollout.LEAVE_SECONDS:g}\n" in manifest
    assert f"IDEFICS2_GRPC_DRAIN_TIMEOUT_SECONDS={rollout.DRAIN_SECONDS:g}\n" in manifest
    settings = Settings()
    assert settings.store.lease_seconds == store.LEASE_SECONDS
    assert settings.store.renew_seconds == store.RENEW_SECONDS
    assert settings.store.keep_seconds == parts.KEEP_SECONDS
    assert runs._TEXT_SECONDS == store.TEXT_SECONDS
    engine = EngineConfig()
    for name in ("h100", "tiny_guess"):
        profile = read_profile(name).profile
        assert profile.max_turns == settings.queue.max_running
        assert profile.max_ahead == workers._MAX_AHEAD
        assert profile.max_step_tokens == engine.max_step_tokens
        assert profile.max_step_patches == engine.max_step_patches
        assert profile.num_image_workers == engine.num_image_workers
        cores = {"h100": 16, "tiny_guess": profile.num_cores}[name]
        assert profile.max_messages_per_second == _MESSAGES_PER_CORE * cores


def test_what_a_gpu_was_measured_to_do_takes_the_place_of_what_was_guessed(profile: Profile) -> None:
    measured = {
        "a step of 8 sequences at 512 tokens, beside its limit": 0.02,
        "a step of 64 sequences at 512 tokens, beside its limit": 0.03,
        "980x980, whole: 4900 patches, beside its limit": 3 * profile.seconds_to_look([4900]),
    }
    replaced = gpus.replace_measured(profile, measured)
    assert replaced.step_seconds(8, 8 * 512) == pytest.approx(0.02)
    assert replaced.step_seconds(64, 64 * 512) == pytest.approx(0.03)
    assert replaced.seconds_to_look([100, 200]) == pytest.approx(3 * profile.seconds_to_look([100, 200]))
    assert replaced.step_seconds(1_024, 0) == pytest.approx(profile.step_seconds(1_024, 0))


def make_trial(profile: Profile, load: Load, around: Surroundings = ALONE) -> Trial:
    """Make what would have been observed, if the real service were as the profile says."""
    trial = Trial(load.name, load.asks, 0.0, around, Observed(0))
    return dataclasses.replace(trial, observed=simulate(profile, trial))


def test_a_fit_finds_what_was_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "FITTED", ("patch_seconds", 1))
    hidden = read_profile("tiny_guess").profile
    loads = [load for load in make_calibration_loads() if load.name in {"8 at once, split", "8 at once"}]
    # On a machine that others use the second time.
    trials = [make_trial(hidden, load, Surroundings(others)) for others in (0.0, 1.5) for load in loads]
    begun = calibration.move(dataclasses.replace(hidden, patch_seconds=3 * hidden.patch_seconds), 1, 0.5)
    found = fit(begun, trials)
    assert found.patch_seconds == pytest.approx(hidden.patch_seconds, rel=0.1)
    assert type(found.patch_seconds) is float  # and not numpy's, which no file takes
    assert found.step_seconds(8, 0) == pytest.approx(hidden.step_seconds(8, 0), rel=0.1)


def test_the_slowest_answers_are_those_of_all_runs() -> None:
    profile = read_profile("tiny_guess").profile
    (load,) = (load for load in make_calibration_loads() if load.name == "32 at once")
    runs = [make_trial(profile, load, Surroundings(others)) for others in (0.0, 0.0, 6.0)]
    *_, slowest = check._make_load_rows(profile, runs)
    longest = [max(run.observed.to_end) for run in runs]
    assert slowest.ratio == pytest.approx(1)
    assert longest[1] < slowest.value / 1000 <= longest[2]  # of the run that was disturbed


def test_a_machine_that_others_use_answers_as_much_slower_as_they_take_of_it() -> None:
    profile = dataclasses.replace(read_profile("tiny_guess").profile, way_seconds=0.0, message_seconds=0.0)
    (load,) = (load for load in make_calibration_loads() if load.name == "one by one, first tokens")
    alone, beside = (make_trial(profile, load, Surroundings(others)).observed for others in (1.0, 3.0))
    assert beside.end_p50 == pytest.approx(2 * alone.end_p50)


def test_cores_are_shared_evenly_and_nobody_has_more_than_one() -> None:
    clock = simpy.Environment()
    cores = SharedCores(clock, 2)
    ends: dict[str, float] = {}

    def work(name: str, at: float, seconds: float) -> Process:
        yield clock.timeout(at)
        yield cores.begin(seconds).done
        ends[name] = clock.now

    for name, at, seconds in (("long", 0, 3.0), ("short", 0, 1.0), ("late", 0.5, 1.0)):
        clock.process(work(name, at, seconds))
    clock.run()
    # From 0.5 s on three share two cores, until the second one ends at 1.25 s.
    assert ends == pytest.approx({"short": 1.25, "late": 1.75, "long": 3.25})


def test_work_takes_longer_while_the_machine_is_slow() -> None:
    clock = simpy.Environment()
    cores = SharedCores(clock, 1, Surroundings(paces=[(0.0, 1.0), (1.0, 2.0), (3.0, 0.5)]))
    ended = cores.begin(3.0).done
    clock.run(until=ended)
    # One second of it in the first second, one in the next two, and the last in half of one.
    assert clock.now == pytest.approx(3.5)


def test_a_pace_is_what_the_same_work_costs_from_time_to_time() -> None:
    with PaceMeter() as meter:
        begun = time.perf_counter()
        for _ in patience("a piece of work to be done"):
            if meter.read(begun):
                break
    (at, cost), *_ = costs = meter.read(begun)
    assert at == 0
    assert 0 < cost < 1
    paces = Surroundings(paces=costs).relative_to(find_usual([costs])).paces
    assert statistics.median(pace for _, pace in paces) == pytest.approx(1)


def test_who_waits_in_a_line_comes_in_its_order() -> None:
    clock = simpy.Environment()
    line = Line(Cores(clock), number=2)
    ends: list[tuple[str, float]] = []
    for name, seconds in (("a", 3.0), ("b", 1.0), ("c", 1.0), ("d", 2.0)):
        line.ask(seconds, lambda name=name: ends.append((name, clock.now)))  # type: ignore[misc]  # its default
    clock.run()
    assert ends == [("b", 1.0), ("c", 2.0), ("a", 3.0), ("d", 4.0)]


def test_who_shows_an_image_that_is_being_decoded_waits_for_it_and_no_longer(plain: Profile) -> None:
    profile = dataclasses.replace(plain, num_slots=2, megapixel_seconds=100.0, num_image_workers=1)
    asks = [Ask(number, 0.4 * number, SMALL, 0, number, 20, 1) for number in range(2)]
    jobs = make_fleet(profile, 1, has_store=False).go(asks).jobs
    assert [job.ended_at for job in jobs] == pytest.approx([1.0 + STEP_SECONDS] * 2)


def test_every_mix_can_be_asked_for(profile: Profile) -> None:
    for mix in MIXES.values():
        run = make_fleet(profile, 1).go(draw_traffic(steady(2), mix, 20, 1))
        assert all(job.first_token_at <= job.ended_at for job in run.jobs)
