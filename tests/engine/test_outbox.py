"""The outbox: each request's events in order, whatever the senders do."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idefics2_engine.outbox import Outbox, join_text
from idefics2_engine.requests import Event, Finished, StageEntered, TextDelta

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

PATIENCE_SECONDS = 30
FINISHED = Finished("LENGTH", 1, 1, 1)


class Wire:
    """Where events go: remembers each message, and lets one through when its request's gate is open."""

    def __init__(self) -> None:
        """Begin with every gate open."""
        self.messages: list[tuple[str, list[int]]] = []
        self.begun: list[str] = []
        self.closed: set[str] = set()
        self.broken: set[str] = set()
        self.faults: list[str] = []
        self.changed = threading.Condition()

    def send(self, request_id: str, events: list[Event]) -> None:
        """Pass a message on, when the gate of its request is open."""
        with self.changed:
            if self.begun.count(request_id) != self._num_ended(request_id):
                self.faults.append(f"two senders for {request_id} at a time")
            self.begun.append(request_id)
            self.changed.notify_all()
            self.wait_for(lambda: request_id not in self.closed)
            numbers = [event.num_generated_tokens for event in events if isinstance(event, TextDelta)]
            self.messages.append((request_id, numbers))
            self.changed.notify_all()
            if request_id in self.broken:
                raise ConnectionError

    def open(self, *request_ids: str) -> None:
        """Open the gates of these requests."""
        with self.changed:
            self.closed.difference_update(request_ids)
            self.changed.notify_all()

    def wait_until_begun(self, *request_ids: str) -> None:
        """Return when a message of each of these is in a sender's hands, or was."""
        with self.changed:
            self.wait_for(lambda: set(request_ids) <= set(self.begun))

    def wait_until_sent(self, num_messages: int) -> None:
        """Return when so many messages are out."""
        with self.changed:
            self.wait_for(lambda: len(self.messages) >= num_messages)

    def wait_until_told(self, request_id: str, number: int) -> None:
        """Return when a request was told the delta of this number."""
        with self.changed:
            self.wait_for(
                lambda: any(name == request_id and number in numbers for name, numbers in self.messages)
            )

    def wait_for(self, holds: object) -> None:
        """Wait, but not for ever."""
        assert callable(holds)
        assert self.changed.wait_for(holds, PATIENCE_SECONDS), "nothing happens any more"

    def _num_ended(self, request_id: str) -> int:
        return sum(name == request_id for name, _ in self.messages)


@contextmanager
def running_outbox(
    wire: Wire, num_senders: int = 4, max_messages_per_second: float = math.inf
) -> Iterator[Outbox]:
    """Run an outbox, and close it with all gates open."""
    outbox = Outbox(wire.send, num_senders, max_messages_per_second)
    try:
        yield outbox
    finally:
        wire.open(*wire.closed)
        outbox.close()
    assert wire.faults == []


def event(number: int) -> TextDelta:
    """Make an event that can be told from others."""
    return TextDelta("x", number)


def test_events_put_one_by_one_are_sent_one_by_one() -> None:
    wire = Wire()
    with running_outbox(wire) as outbox:
        for number in range(50):
            outbox.put("a", event(number))
            wire.wait_until_sent(number + 1)
    assert wire.messages == [("a", [number]) for number in range(50)]


def test_events_that_come_while_one_is_sent_are_joined_in_order() -> None:
    wire = Wire()
    wire.closed = {"a"}
    with running_outbox(wire) as outbox:
        outbox.put("a", event(0))
        wire.wait_until_begun("a")
        for number in range(1, 5):
            outbox.put("a", event(number))
        wire.open("a")
        wire.wait_until_sent(2)
        outbox.put("a", event(5))
    assert wire.messages == [("a", [0]), ("a", [1, 2, 3, 4]), ("a", [5])]


def test_a_request_has_one_sender_at_most_and_the_others_serve_other_requests() -> None:
    wire = Wire()
    wire.closed = {"slow"}
    with running_outbox(wire) as outbox:
        outbox.put("slow", event(0))
        wire.wait_until_begun("slow")
        outbox.put("slow", event(1))
        for index, name in enumerate("abcdef"):
            outbox.put(name, event(index))
        wire.wait_until_sent(6)
        assert wire.begun.count("slow") == 1
        assert sorted(wire.messages) == [(name, [index]) for index, name in enumerate("abcdef")]
    assert wire.messages[6:] == [("slow", [0]), ("slow", [1])]


def test_all_senders_send_at_the_same_time() -> None:
    wire = Wire()
    wire.closed = set("abcd")
    with running_outbox(wire, num_senders=4) as outbox:
        for name in "abcd":
            outbox.put(name, event(0))
        wire.wait_until_begun(*"abcd")
        assert wire.messages == []
    assert sorted(wire.messages) == [(name, [0]) for name in "abcd"]


def test_putting_never_waits_for_a_sender() -> None:
    wire = Wire()
    wire.closed = set("abcde")
    with running_outbox(wire) as outbox:
        for number in range(1000):
            outbox.put("abcde"[number % 5], event(number))
        assert wire.messages == []
    for offset, name in enumerate("abcde"):
        sent = [number for request_id, numbers in wire.messages if request_id == name for number in numbers]
        assert sent == list(range(offset, 1000, 5))


def test_who_talks_much_lets_the_others_pass() -> None:
    wire = Wire()
    wire.closed = {"talker"}
    with running_outbox(wire, num_senders=1) as outbox:
        outbox.put("talker", event(0))
        wire.wait_until_begun("talker")
        outbox.put("talker", event(1))
        outbox.put("quiet", event(2))
    assert wire.messages == [("talker", [0]), ("quiet", [2]), ("talker", [1])]


def test_order_is_kept_with_many_who_put_and_four_slow_senders() -> None:
    sent: dict[str, list[int]] = defaultdict(list)
    busy: set[str] = set()
    lock = threading.Lock()
    faults: list[str] = []

    def send(request_id: str, events: list[Event]) -> None:
        with lock:
            if request_id in busy:
                faults.append(request_id)
            busy.add(request_id)
        hashlib.pbkdf2_hmac("sha256", b"slow", b"work", 300)
        with lock:
            sent[request_id] += [each.num_generated_tokens for each in events if isinstance(each, TextDelta)]
            busy.remove(request_id)

    outbox = Outbox(send, num_senders=4)

    def talk(speaker: int) -> None:
        for number in range(300):
            outbox.put(f"{speaker}-{number % 4}", event(number))

    speakers = [threading.Thread(target=talk, args=(speaker,)) for speaker in range(4)]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join()
    outbox.close()
    assert faults == []
    assert sent == {f"{s}-{n}": list(range(n, 300, 4)) for s in range(4) for n in range(4)}


def test_closing_sends_all_that_is_pending_and_ends_the_senders() -> None:
    wire = Wire()
    wire.closed = {"a", "b"}
    outbox = Outbox(wire.send, num_senders=2)
    for number in range(20):
        outbox.put("abcd"[number % 4], event(number))
    wire.wait_until_begun("a", "b")
    closing = threading.Thread(target=outbox.close)
    closing.start()
    assert closing.is_alive()
    wire.open("a", "b")
    closing.join(PATIENCE_SECONDS)
    assert not closing.is_alive()
    assert sorted(number for _, numbers in wire.messages for number in numbers) == list(range(20))
    assert not [sender for sender in outbox._senders if sender.is_alive()]


def test_closing_an_outbox_that_was_never_used_returns() -> None:
    Outbox(Wire().send).close()


def test_a_message_that_cannot_be_sent_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    wire.broken = {f"broken-{n}" for n in range(8)}
    with running_outbox(wire, num_senders=4) as outbox:
        for name in sorted(wire.broken):  # twice as many as there are senders
            outbox.put(name, event(0))
        wire.wait_until_sent(8)
        outbox.put("whole", event(1))
        outbox.put("broken-0", event(2))
        wire.wait_until_sent(10)
    assert sorted(wire.messages[8:]) == [("broken-0", [2]), ("whole", [1])]
    logged = [record for record in caplog.records if record.exc_info]
    assert sorted(vars(record)["request_id"] for record in logged) == sorted([*wire.broken, "broken-0"])


def test_what_comes_while_a_message_fails_is_still_sent() -> None:
    wire = Wire()
    wire.broken, wire.closed = {"a"}, {"a"}
    with running_outbox(wire) as outbox:
        outbox.put("a", event(0))
        wire.wait_until_begun("a")
        outbox.put("a", event(1))
    assert wire.messages == [("a", [0]), ("a", [1])]


def test_requests_that_talk_at_once_are_told_less_often_and_lose_nothing() -> None:
    wire = Wire()
    names = [f"{n}" for n in range(20)]
    with running_outbox(wire, max_messages_per_second=0.01) as outbox:  # each waits over half an hour
        for number in range(1, 400):
            for name in names:
                outbox.put(name, TextDelta("x", number))
        for name in names:
            outbox.put(name, FINISHED)
    told: dict[str, list[int]] = defaultdict(list)
    for name, numbers in wire.messages:
        told[name] += numbers
    assert told == {name: list(range(1, 400)) for name in names}
    assert len(wire.messages) <= 3 * len(names)  # what came first, at most once more meanwhile, and the end


def test_what_cannot_wait_is_sent_at_once_however_many_talk() -> None:
    wire = Wire()
    with running_outbox(wire, max_messages_per_second=1e-6) as outbox:  # a message in eleven days
        for name in ("a", "b"):
            outbox.put(name, StageEntered("PREFILL"))
            outbox.put(name, TextDelta("x", 1))
            wire.wait_until_told(name, 1)
            outbox.put(name, TextDelta("x", 2))
        outbox.put("a", TextDelta("x", 3))
        outbox.put("a", FINISHED)
        wire.wait_until_told("a", 3)
        assert not any(2 in numbers for name, numbers in wire.messages if name == "b")
    assert [number for name, numbers in wire.messages if name == "b" for number in numbers] == [1, 2]


def test_text_that_is_sent_together_is_one_delta() -> None:
    first, last = StageEntered("DECODE"), FINISHED
    events: list[Event] = [first, TextDelta("a ", 1), TextDelta("b", 3), TextDelta(" c", 4), last]
    assert join_text(events) == [first, TextDelta("a b c", 4), last]
    assert join_text([first, last]) == [first, last]
    assert join_text([]) == []
