"""Pictures are decoded by processes of their own, and whatever happens to one costs its own picture alone."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, as_completed
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import psutil
import pytest
from idefics2_engine import image_workers
from idefics2_engine.errors import EngineFault
from idefics2_engine.image_worker import pack
from idefics2_engine.image_workers import ImageWorkers, WorkerLimits
from idefics2_engine.images import InvalidImage, Sizing
from pictures import draw_red_circle, encode
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from plain import cut_plainly, decode_plainly
from processes import PATIENCE_SECONDS, wait_until_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from idefics2_engine.images import Crop

SIZING = Sizing(shortest_edge=64, longest_edge=128, patch_size=16, resample=2)
MAX_PIXELS = 50_000_000
MIB = 1 << 20
ROOM = 200_000_000
SMALL = encode(draw_red_circle((60, 40)))
OWNER = f"""
import sys
from idefics2_engine.image_workers import ImageWorkers, Sizing, WorkerLimits

limits = WorkerLimits({MAX_PIXELS}, {PATIENCE_SECONDS}, {PATIENCE_SECONDS}, {ROOM})
workers = ImageWorkers(1, {SIZING}, limits)
workers.submit({SMALL!r}, split=False, give_up=lambda: False).result()
print("ready", flush=True)
sys.stdin.read()
"""


class Watched:
    """Workers, and the processes that are theirs."""

    def __init__(self, num_workers: int, sizing: Sizing, limits: WorkerLimits) -> None:
        """Start them; processes of other owners are none of ours."""
        self._others = set(psutil.Process().children())
        self.workers = ImageWorkers(num_workers, sizing, limits)

    def submit(self, data: bytes, *, split: bool = False) -> Future[list[Crop]]:
        """Have a picture cut that is wanted to the end."""
        return self.workers.submit(data, split=split, give_up=lambda: False)

    def cut(self, data: bytes, *, split: bool = False) -> list[Crop]:
        """Have a picture cut, and wait for it."""
        return self.submit(data, split=split).result(PATIENCE_SECONDS)

    def refuse(self, data: bytes) -> InvalidImage:
        """Have a picture cut that must be refused."""
        with pytest.raises(InvalidImage) as caught:
            self.cut(data)
        return caught.value

    def begin(self, data: bytes, unwanted: threading.Event | None = None) -> Future[list[Crop]]:
        """Return when a worker is given the picture; it is wanted until it is `unwanted`."""
        looks, begun = itertools.count(), threading.Event()

        def give_up() -> bool:
            if next(looks) > 1:  # the first look is still in line, the second one still without it
                begun.set()
            return unwanted is not None and unwanted.is_set()

        result = self.workers.submit(data, split=False, give_up=give_up)
        assert begun.wait(PATIENCE_SECONDS)
        return result

    def processes(self) -> list[psutil.Process]:
        """List those that have not ended."""
        return [process for process in psutil.Process().children() if process not in self._others]

    def start(self) -> psutil.Process:
        """Let the only worker start, and do nothing."""
        self.cut(SMALL)
        (process,) = self.processes()
        return process


@contextmanager
def watching(
    num_workers: int = 1,
    *,
    sizing: Sizing = SIZING,
    max_seconds: float = PATIENCE_SECONDS,
    max_memory_bytes: int = ROOM,
) -> Iterator[Watched]:
    """Run workers, of which nothing is left afterwards."""
    limits = WorkerLimits(MAX_PIXELS, max_seconds, PATIENCE_SECONDS, max_memory_bytes)
    watched = Watched(num_workers, sizing, limits)
    try:
        yield watched
    finally:
        for process in watched.processes():
            process.resume()
        watched.workers.close()
    assert watched.processes() == []


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """One worker, for tests that do it no harm."""
    with watching() as made:
        yield made


def freeze(process: psutil.Process) -> None:
    """Return when a child of ours has stopped."""
    process.suspend()
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def kill(process: psutil.Process) -> None:
    """Return when a child of ours is dead, and leave it to its owner to find out."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def crash(process: psutil.Process) -> None:
    """Let a child of ours that has stopped end as decoders do that write where they may not."""
    end_by(process, signal.SIGSEGV)


def end_by(process: psutil.Process, number: signal.Signals) -> None:
    """Let a signal end a child of ours that has stopped."""
    process.send_signal(number)
    with suppress(psutil.NoSuchProcess):  # one signal did not wait for that
        process.resume()


def check_equal(crops: list[Crop], expected: list[Crop]) -> None:
    assert [crop.grid for crop in crops] == [crop.grid for crop in expected]
    for crop, other in zip(crops, expected, strict=True):
        assert np.array_equal(crop.patches, other.patches)


def cut_here(data: bytes, sizing: Sizing = SIZING, *, split: bool = False) -> list[Crop]:
    """Do a worker's work in this process."""
    return cut_plainly(decode_plainly(data), sizing, split=split)


def draw_noise(size: tuple[int, int]) -> Image.Image:
    """Draw what cannot be compressed."""
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), np.uint8))


def double_depth(image: Image.Image) -> Image.Image:
    """Make 16-bit grey of an image."""
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (2, 90), (60, 40), (290, 97), (97, 290), (500, 400)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_picture_of_any_mode_and_size_becomes_the_crops_that_it_would_become_here(
    watched: Watched, mode: str, size: tuple[int, int], *, split: bool
) -> None:
    noise = draw_noise(size)
    image = double_depth(noise) if mode == "I;16" else noise.convert(mode)
    assert image.mode == mode
    data = encode(image)
    check_equal(watched.cut(data, split=split), cut_here(data, split=split))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(3000, 450), (1100, 1100), (450, 3000)], ids=["wide", "square", "tall"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_of_many_strips_becomes_the_crops_that_it_would_become_plainly(
    watched: Watched, kind: str, size: tuple[int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(draw_noise(size), kind, exif=exif)
    check_equal(watched.cut(data, split=True), cut_here(data, split=True))


def test_file_and_crops_may_be_larger_than_a_pipe_holds() -> None:
    data = encode(draw_noise((700, 500)))
    sizing = Sizing(shortest_edge=378, longest_edge=980, patch_size=14, resample=2)
    assert len(data) > MIB
    with watching(sizing=sizing) as watched:
        check_equal(watched.cut(data, split=True), cut_here(data, sizing, split=True))


@pytest.mark.parametrize(
    ("data", "reason", "problem"),
    [
        (b"", "FILE_NOT_AN_IMAGE", "known format"),
        (b"I am no picture.", "FILE_NOT_AN_IMAGE", "known format"),
        (encode(Image.new("1", (MAX_PIXELS // 5000, 5001))), "FILE_TOO_MANY_PIXELS", str(MAX_PIXELS)),
        (SMALL[: len(SMALL) // 2], "FILE_UNDECODABLE", "damaged or truncated PNG"),
    ],
    ids=["empty", "no picture", "too many pixels", "half a picture"],
)
def test_a_picture_that_cannot_be_shown_is_refused_for_its_reason_and_its_worker_stays(
    watched: Watched, data: bytes, reason: str, problem: str
) -> None:
    before = watched.start()
    error = watched.refuse(data)
    assert error.reason == reason
    assert problem in error.problem
    assert watched.start() == before


def test_what_a_worker_prints_is_not_among_its_replies(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with watching() as watched:
        process = watched.start()
        for number in (1, 2):
            printed = os.open(f"/proc/{process.pid}/fd/{number}", os.O_WRONLY | os.O_APPEND)
            os.write(printed, b"a library says something\n")
            os.close(printed)
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.processes() == [process]
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("a library says something\n") == 2


def test_what_ends_a_worker_is_a_line_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    with watching() as watched:
        process = watched.start()
        pipe = os.open(f"/proc/{process.pid}/fd/0", os.O_WRONLY | os.O_APPEND)
        os.write(pipe, pack({}, b""))  # no message of ours
        os.close(pipe)
        wait_until_gone([process])
    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert (line["level"], line["exception"][0]["exc_type"]) == ("critical", "KeyError")


def test_of_its_owners_environment_a_worker_has_what_a_program_needs_and_no_setting_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needed = {"LD_LIBRARY_PATH": "/nowhere", "LC_ALL": "C.UTF-8", "TZ": "UTC", "IDEFICS2_LOG_LEVEL": "error"}
    secret = ("IDEFICS2_API_KEY", "IDEFICS2_STORE_URL", "AWS_SECRET_ACCESS_KEY", "OTEL_EXPORTER_OTLP_HEADERS")
    for name, value in (needed | dict.fromkeys(secret, "swordfish")).items():
        monkeypatch.setenv(name, value)
    with watching() as watched:
        environment = watched.start().environ()
    assert environment.items() >= {**needed, "PATH": os.environ["PATH"]}.items()
    assert "swordfish" not in environment.values()


class Clock:
    """Stands still, or goes by an hour between two looks."""

    def __init__(self) -> None:
        """Begin at some time."""
        self.now = 1_000.0
        self.goes = False
        self._looked = threading.Event()

    def monotonic(self) -> float:
        """Look at it."""
        if self.goes:
            self.now += 3_600
        self._looked.set()
        return self.now

    def jump(self) -> None:
        """Go on by an hour at once; return when somebody has looked at it since."""
        self.now += 3_600
        self._looked.clear()
        assert self._looked.wait(PATIENCE_SECONDS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which pictures take too long."""
    made = Clock()
    monkeypatch.setattr(image_workers, "time", made)
    return made


def test_a_picture_that_takes_too_long_is_refused_and_the_next_has_a_new_worker(clock: Clock) -> None:
    with watching(max_seconds=1) as watched:
        slow = watched.start()
        freeze(slow)
        clock.goes = True
        with pytest.raises(InvalidImage, match="took more than 1 s to decode") as caught:
            watched.cut(SMALL)
        clock.goes = False
        assert caught.value.reason == "FILE_UNDECODABLE"
        assert not slow.is_running()
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.workers.killed == {"time": 1}


def test_a_pause_of_all_of_us_takes_no_time_from_a_picture(clock: Clock) -> None:
    with watching(max_seconds=1) as watched:
        process = watched.start()
        freeze(process)
        result = watched.begin(SMALL)
        clock.jump()
        process.resume()
        check_equal(result.result(PATIENCE_SECONDS), cut_here(SMALL))
        assert watched.processes() == [process]
        assert not watched.workers.killed


def test_what_a_worker_takes_to_come_up_is_not_taken_from_its_picture(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    come_up = image_workers._wait_until_up

    def come_up_late(worker: subprocess.Popen[bytes]) -> None:
        clock.goes = True
        come_up(worker)
        clock.goes = False

    monkeypatch.setattr(image_workers, "_wait_until_up", come_up_late)
    monkeypatch.setattr(image_workers, "_SECONDS_TO_START", 1_000_000)
    with watching(max_seconds=0.1) as watched:
        check_equal(watched.cut(SMALL), cut_here(SMALL))


def test_a_worker_that_dies_at_work_costs_its_picture_and_the_next_has_a_new_one() -> None:
    with watching() as watched:
        process = watched.start()
        freeze(process)  # so it cannot have finished
        result = watched.begin(SMALL)
        crash(process)
        with pytest.raises(InvalidImage, match="its decoder died") as caught:
            result.result(PATIENCE_SECONDS)
        assert caught.value.reason == "FILE_UNDECODABLE"
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.workers.killed == {"died": 1}


def test_a_worker_that_dies_in_the_midst_of_a_large_file_costs_that_file_alone() -> None:
    with watching() as watched:
        process = watched.start()
        freeze(process)
        result = watched.begin(encode(draw_noise((700, 500))))  # more than fits into the pipe
        crash(process)
        with pytest.raises(InvalidImage, match="its decoder died"):
            result.result(PATIENCE_SECONDS)
        check_equal(watched.cut(SMALL), cut_here(SMALL))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("size", [(60, 40), (700, 500)], ids=["small", "large"])
def test_a_picture_whose_worker_is_killed_from_outside_is_given_to_another(
    number: signal.Signals, size: tuple[int, int]
) -> None:
    data = encode(draw_noise(size))
    with watching() as watched:
        process = watched.start()
        freeze(process)
        result = watched.begin(data)
        end_by(process, number)
        check_equal(result.result(PATIENCE_SECONDS), cut_here(data))
        assert watched.workers.killed == {"died": 1}


def test_where_the_other_is_killed_too_it_is_a_fault_of_ours_and_the_next_picture_has_a_new_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", image_workers.__name__)
    others: Queue[psutil.Process] = Queue()
    with watching() as watched:
        process = watched.start()
        freeze(process)
        result = watched.begin(SMALL)
        with monkeypatch.context() as patch:
            patch.setattr(image_workers, "_wait_until_up", come_up_and(freeze, others))
            process.kill()
            others.get(timeout=PATIENCE_SECONDS).kill()
            with pytest.raises(EngineFault, match="decoders of an image were killed"):
                result.result(PATIENCE_SECONDS)
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.workers.killed == {"died": 2}


def test_a_worker_that_is_dead_before_it_is_given_a_picture_costs_none_however_it_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    died: Queue[psutil.Process] = Queue()

    def die(process: psutil.Process) -> None:
        if not died.qsize():
            process.send_signal(signal.SIGSEGV)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr(image_workers, "_wait_until_up", come_up_and(die, died))
    with watching() as watched:
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert died.qsize() == 2
        assert watched.workers.killed == {"died": 1}


def come_up_and(
    act: Callable[[psutil.Process], None], done: Queue[psutil.Process]
) -> Callable[[subprocess.Popen[bytes]], None]:
    """Return what waits until a worker is up, does something to it and tells of that."""
    come_up = image_workers._wait_until_up

    def come_up_changed(worker: subprocess.Popen[bytes]) -> None:
        come_up(worker)
        process = psutil.Process(worker.pid)
        act(process)
        done.put(process)

    return come_up_changed


@pytest.mark.parametrize("last", ["raise KeyError", "os.close(1); sys.stdin.read()"], ids=["ends", "hangs"])
def test_a_worker_that_has_no_more_to_say_of_a_picture_costs_it_however_it_ends(
    monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    program = f"import os, sys; os.write(1, {pack({}, b'')!r}); sys.stdin.buffer.read(100); {last}"
    monkeypatch.setattr(image_workers, "_SECONDS_TO_END", 0.1 if "close" in last else PATIENCE_SECONDS)
    with watching() as watched:
        with monkeypatch.context() as patch:
            patch.setattr(image_workers, "_PROGRAM", ("-c", program))
            assert "its decoder died" in watched.refuse(SMALL).problem
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.workers.killed == {"died": 1}


def test_where_no_worker_can_be_started_it_is_not_blamed_on_the_picture_and_the_next_has_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", image_workers.__name__)  # tracebacks hold what was there
    with watching() as watched:
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", refuse_to_fork)
            with pytest.raises(EngineFault, match="could not begin to decode an image"):
                watched.cut(SMALL)
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert not watched.workers.killed


@pytest.mark.parametrize(
    ("program", "seconds"),
    [("raise ImportError", PATIENCE_SECONDS), ("import sys; sys.stdin.read()", 0.1)],
    ids=["ends", "hangs"],
)
def test_nor_is_it_where_one_is_started_and_does_not_come_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str, seconds: float
) -> None:
    caplog.set_level("CRITICAL", image_workers.__name__)
    with watching() as watched:
        with monkeypatch.context() as patch:
            patch.setattr(image_workers, "_PROGRAM", ("-c", program))
            patch.setattr(image_workers, "_SECONDS_TO_START", seconds)
            with pytest.raises(EngineFault, match="could not begin to decode an image"):
                watched.cut(SMALL)
            assert watched.processes() == []
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.workers.killed == {"died": 1}


def test_what_nobody_foresaw_is_told_to_who_waits_and_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> NoReturn:
        raise MemoryError

    with watching() as watched:
        watched.cut(SMALL)
        with monkeypatch.context() as patch:
            patch.setattr(image_workers, "_exchange", fail)
            with pytest.raises(MemoryError):
                watched.cut(SMALL)
        check_equal(watched.cut(SMALL), cut_here(SMALL))
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert line.message == "an image could not be decoded"
    assert line.exc_info


def refuse_to_fork(*_: object, **__: object) -> None:
    """Do as a machine that has no process to give."""
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")


def test_a_worker_that_dies_idle_costs_no_picture() -> None:
    with watching() as watched:
        for _ in range(2):
            kill(watched.start())
            check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.workers.killed == {"died": 2}


def test_a_picture_that_would_take_too_much_memory_is_refused_before_it_is_decoded() -> None:
    wide = encode(Image.new("L", (4000, 1000)))  # 4 MB, and a file of nothing
    with watching(max_memory_bytes=10_000_000) as watched:
        process = watched.start()
        error = watched.refuse(wide)
        assert error.reason == "FILE_TOO_MANY_PIXELS"
        assert "4000 x 1000 pixels" in error.problem
        assert "at most 10000000 are allowed" in error.problem
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.processes() == [process]


def test_a_decoder_that_takes_more_memory_than_its_header_says_is_refused_and_its_worker_stays() -> None:
    text = PngInfo()
    for number in range(30):
        text.add_text(str(number), "x" * MIB, zip=True)  # one may have a megabyte
    with watching(max_memory_bytes=20_000_000) as watched:
        process = watched.start()
        error = watched.refuse(encode(draw_red_circle((60, 40)), pnginfo=text))
        assert error.reason == "FILE_UNDECODABLE"
        assert "20000000 bytes of memory" in error.problem
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.processes() == [process]


def test_a_small_file_that_was_made_to_take_long_is_refused_and_the_next_has_a_new_worker() -> None:
    small = encode(draw_red_circle((60, 40)), "JPEG")
    with watching() as watched:
        made = watched.start()
        error = watched.refuse(small[:2] + b"\xff\xe0\x00\x02" * 5_000_000 + small[2:])
        assert (error.reason, error.problem) == (
            "FILE_UNDECODABLE",
            "takes too long to decode for a picture of its size",
        )
        assert not made.is_running()
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.workers.killed == {"processor_time": 1}


def test_a_picture_may_take_its_share_of_time_and_as_much_memory_as_any() -> None:
    program = """
import resource, signal
from idefics2_engine import image_worker
from idefics2_engine.image_worker import Allowance

def tell():
    seconds, limit = signal.getitimer(signal.ITIMER_PROF)[0], resource.getrlimit(resource.RLIMIT_AS)[0]
    print(round(seconds), limit if limit < 0 else limit - idle)

allowance = Allowance(1_000, 11, 4_000_000_000)
idle = image_worker._address_space_bytes()
allowance.begin(1_000_000)
tell()
for num_pixels in (1, 500, 500):
    allowance.extend(num_pixels)
    tell()
allowance.finish_decoding()
tell()
allowance.end()
tell()
"""
    told = [line.split() for line in run_python(program).splitlines()]
    assert [int(seconds) for seconds, _ in told] == [1, 1, 6, 11, 11, 0]
    rooms = [int(room) for _, room in told]
    assert all(abs(room - 3_999_000_000) < MIB for room in rooms[:4])  # the file is there, and counts
    assert rooms[4:] == [-1, -1]


def run_python(program: str) -> str:
    """Return what a program prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(image_workers.__file__).parents[1])}
    return subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)


def test_a_limit_that_leaves_no_room_for_anything_is_not_blamed_on_the_kind_of_the_file() -> None:
    with watching(max_memory_bytes=MIB) as watched:
        for _ in range(2):
            assert watched.refuse(SMALL).reason == "FILE_TOO_MANY_PIXELS"


def test_a_picture_that_nobody_wants_any_more_is_given_up_with_its_worker() -> None:
    unwanted = threading.Event()
    with watching() as watched:
        process = watched.start()
        freeze(process)
        result = watched.begin(SMALL, unwanted)
        unwanted.set()
        with pytest.raises(CancelledError):
            result.result(PATIENCE_SECONDS)
        assert not process.is_running()
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.workers.killed == {"cancelled": 1}


def test_a_picture_that_is_given_up_in_line_is_cancelled_and_costs_no_worker() -> None:
    with watching() as watched:
        process = watched.start()
        result = watched.workers.submit(SMALL, split=False, give_up=lambda: True)
        with pytest.raises(CancelledError):
            result.result(PATIENCE_SECONDS)
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.processes() == [process]
        assert not watched.workers.killed


def test_a_worker_that_comes_up_for_a_picture_that_nobody_wants_any_more_is_kept() -> None:
    with watching() as watched:
        result = watched.workers.submit(SMALL, split=False, give_up=lambda: bool(watched.processes()))
        with pytest.raises(CancelledError):
            result.result(PATIENCE_SECONDS)
        (process,) = watched.processes()
        check_equal(watched.cut(SMALL), cut_here(SMALL))
        assert watched.processes() == [process]
        assert not watched.workers.killed


def test_two_workers_work_at_the_same_time_and_one_that_hangs_does_not_hold_up_the_other() -> None:
    begun = threading.Event(), threading.Event()

    def meet(mine: int) -> bool:
        begun[mine].set()
        assert begun[1 - mine].wait(PATIENCE_SECONDS)
        return False

    with watching(2) as watched:
        met = [watched.workers.submit(SMALL, split=False, give_up=partial(meet, mine)) for mine in (0, 1)]
        for result in met:
            check_equal(result.result(PATIENCE_SECONDS), cut_here(SMALL))
        hanging, _ = watched.processes()
        freeze(hanging)
        results = [watched.submit(SMALL) for _ in range(6)]
        done = as_completed(results, PATIENCE_SECONDS)
        for _ in range(5):  # the one that hangs has one at most
            next(done).result()
        hanging.resume()
        next(done).result()


def test_closing_finishes_what_is_in_line_and_leaves_no_process() -> None:
    with watching(2) as watched:
        results = [watched.submit(SMALL) for _ in range(5)]
        watched.workers.close()
        assert all(result.done() for result in results)
        assert watched.processes() == []


def test_closing_workers_that_were_never_asked_returns() -> None:
    with watching(2):
        pass


def test_a_worker_dies_with_its_owner_even_if_it_hangs() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(image_workers.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        (process,) = psutil.Process(owner.pid).children()
        process.suspend()  # so it cannot end by itself
        owner.send_signal(signal.SIGKILL)
    wait_until_gone([process])


def test_a_worker_whose_owner_died_before_it_began_ends_at_once() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(image_workers.__file__).parents[1])}
    command = [sys.executable, "-m", "idefics2_engine.image_worker", "1", str(ROOM), "1", "1"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:  # its standard input stays open
        assert process.wait(PATIENCE_SECONDS) == 0
        assert process.stdout is not None
        assert process.stdout.read() == b""
