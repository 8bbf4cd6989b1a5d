"""Every change of the tables, each inside a transaction of `DatabaseThread`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from idefics2_service.errors import AttemptLost, AttemptsExhausted, RequestCancelled, RequestNotFound
from idefics2_service.events import AttemptStarted, Failed, Finished, Happening, LogLine
from idefics2_service.requests import Priority, RequestName, Stage, State
from idefics2_service.store import codec, refusals
from idefics2_service.store.interface import (
    DELIVERIES,
    FIRST_SILENT_LOSS,
    LOW_PRIORITY_ROUNDS,
    MAX_LOSSES,
    WORK,
    cancelled,
    grown,
)
from idefics2_service.store.progress import LOST_WORKER, progress_of, state_after
from idefics2_service.store.records import Claim, Delivery, Ended, Lease, Reaped, draw_holder
from idefics2_service.store.sqlite.deliveries import Deliveries
from idefics2_service.store.sqlite.rows import find_row, read_row, read_rows
from idefics2_service.store.sqlite.views import Views

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import apsw

    from idefics2_service.errors import ServiceError
    from idefics2_service.requests import ValidRequest
    from idefics2_service.settings import StoreSettings
    from idefics2_service.store.records import Record, Submission
    from idefics2_service.store.sqlite.order import Order
    from idefics2_service.store.sqlite.rows import Row

_REAPED_AT_ONCE = 200
_ENDED_AT_ONCE = 100
"""By a claim: everybody else waits for it."""
_ENDED = {
    RequestCancelled: Lease.CANCELLED,
    AttemptsExhausted: Lease.EXHAUSTED,
    AttemptLost: Lease.LOST_ONCE,
}
"""What a worker hears that hands back what then ends, by why."""
_RELEASED_BY = "released by "
"""Before the holder of what has ended by being handed back."""


class Claimed(NamedTuple):
    """What one operation of a claim came to."""

    claim: Claim | None = None
    ended: Sequence[Ended] = ()
    is_over: bool = True
    """Whether nothing is left for another one, which has to be durable."""


class Ledger:
    """Changes over one connection; `topics` collects who is to be told once they are kept."""

    def __init__(self, connection: apsw.Connection, order: Order, settings: StoreSettings) -> None:
        """Write to `connection`, and keep `order` in step with it."""
        self._connection = connection
        self._order = order
        self._settings = settings
        self._views = Views(connection, order)
        self._deliveries = Deliveries(connection)
        self.topics: set[str] = set()

    def load(self) -> None:
        """Read who waits, at the start or where a transaction was undone."""
        self._order.reset(self._connection.execute("SELECT tag, seq FROM requests WHERE state = 'QUEUED'"))

    def shorten_leases(self) -> None:
        """Let no lease last longer than one that is given now: the clock may have been set back since."""
        until = time.time() + self._settings.lease_seconds
        self._execute(
            "UPDATE requests SET lease_until = ? WHERE state = 'RUNNING' AND lease_until > ?", until, until
        )

    def submit(self, submission: Submission) -> Record:
        """As RequestStore.submit."""
        name = submission.name
        known = self._one("SELECT fingerprint FROM requests WHERE key_id = ? AND request_id = ?", *name)
        if known is None:
            self._insert(submission)
        elif known[0] != submission.fingerprint:
            raise refusals.id_taken(name)
        return self._views.get(name)

    def _insert(self, submission: Submission) -> None:
        payload = codec.encode_request(submission.request)
        if len(payload) > self._settings.max_payload_bytes:
            raise refusals.payload_too_large(len(payload), self._settings.max_payload_bytes)
        self._check_quota(submission)
        tag, now = self._make_tag(submission), time.time()
        self._check_room(submission, tag)
        name, request = submission.name, submission.request
        start = submission.start_timeout_seconds
        self._execute(
            "INSERT INTO requests (key_id, request_id, fingerprint, state, priority, tag, max_new_tokens, "
            "webhook_url, created_at, end_by, start_by, keep_seconds, traceparent, is_begun_once) "
            "VALUES (?, ?, ?, 'QUEUED', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *name,
            submission.fingerprint,
            submission.priority.value,
            tag,
            request.max_new_tokens,
            submission.webhook_url,
            now,
            now + submission.time_budget_seconds,
            None if start is None else now + start,
            submission.keep_seconds,
            submission.traceparent,
            submission.is_begun_once,
        )
        seq = self._connection.last_insert_rowid()
        self._execute("INSERT INTO payloads VALUES (?, ?)", seq, payload)
        self._order.add((tag, seq))
        self.topics.add(WORK)

    def _make_tag(self, submission: Submission) -> int:
        """Let keys take turns: behind the key's own, or behind who was begun last."""
        (base,) = self._one("SELECT last_tag FROM progress") or (0,)
        if submission.priority is Priority.LOW:
            base += LOW_PRIORITY_ROUNDS
        (own,) = self._one(
            "SELECT max(tag) FROM requests WHERE state = 'QUEUED' AND key_id = ? AND priority = ?",
            submission.name.key_id,
            submission.priority.value,
        ) or (None,)
        return int(max(base, own or 0)) + 1

    def _check_quota(self, submission: Submission) -> None:
        bound = submission.max_queued_of_key
        if bound is None:
            return
        own = "SELECT 1 FROM requests WHERE key_id = ? AND state IN ('QUEUED', 'RUNNING') LIMIT ?"
        (num_own,) = self._one(f"SELECT count(*) FROM ({own})", submission.name.key_id, bound) or (0,)  # noqa: S608  # our own
        if num_own >= bound:
            raise refusals.queue_quota_exceeded(bound)

    def _check_room(self, submission: Submission, tag: int) -> None:
        if (waiting := len(self._order)) >= self._settings.max_queued:
            raise refusals.queue_full(waiting, self._settings.max_queued)
        wanted, before = submission.max_queue_length, self._order.position((tag, 2**62))
        if wanted is not None and before > wanted:
            raise refusals.queue_too_long(before, wanted)

    def cancel(self, name: RequestName) -> tuple[Record, Ended | None]:
        """As RequestStore.cancel; return its end, too, where this was it."""
        seq, ended = self._views.find(name), None
        record = self._views.get(name)
        if record.state is State.QUEUED:
            end = Failed(refusals.cancelled())
            self._end(seq, (), end)
            ended = self._describe(seq, end, time.time())
        elif record.state is State.RUNNING:
            self._execute("UPDATE requests SET is_cancelled = 1 WHERE seq = ?", seq)
            self.topics.add(cancelled(name))
        return self._views.get(name), ended

    def claim(self, holder: str, but_of: Collection[str] = (), *, is_durable: bool) -> Claimed:
        """As RequestStore.claim, as far as one operation may go that is durable or not."""
        ended: list[Ended] = []
        if (before := self._begun_before(holder)) is not None:
            return Claimed(before)
        while len(ended) < _ENDED_AT_ONCE:
            place = self._views.find_first(but_of) if but_of else self._order.first
            if place is None:
                return Claimed(None, ended)
            tag, seq = place
            now = time.time()
            request = self._read_request(seq, now)
            has_to_last = isinstance(request, Failed) or bool(self._row("is_begun_once", seq)[0])
            if has_to_last and not is_durable:
                return Claimed(is_over=False)
            if not isinstance(request, Failed):
                return Claimed(self._begin(seq, tag, now, request, holder), ended)
            self._end(seq, (), request)
            ended.append(self._describe(seq, request, now))
        return Claimed(None, ended, is_over=False)

    def _read_request(self, seq: int, now: float) -> ValidRequest | Failed:
        """Return a request that waits, or how it ends where it is not to be begun."""
        error = _overdue(now, *self._row("start_by, end_by", seq))
        if error is not None:
            return Failed(error)
        return self._decode_request(seq)

    def _decode_request(self, seq: int) -> ValidRequest | Failed:
        (payload,) = self._one("SELECT data FROM payloads WHERE seq = ?", seq) or (b"",)
        return codec.decode_request(payload, RequestName(*self._row("key_id, request_id", seq)))

    def _begun_before(self, holder: str) -> Claim | None:
        """Hold what was claimed by a call whose answer was lost for another lease."""
        found = self._one(
            "SELECT seq FROM requests WHERE state = 'RUNNING' AND lease_until IS NOT NULL AND holder = ?",
            holder,
        )
        if found is None:
            return None
        (seq,) = found
        request = self._decode_request(seq)
        if isinstance(request, Failed):  # it could be read when it was claimed
            return None
        now = time.time()
        until = now + self._settings.lease_seconds
        self._execute("UPDATE requests SET lease_until = ? WHERE seq = ?", until, seq)
        return self._read_claim(seq, now, request)

    def _begin(self, seq: int, tag: int, now: float, request: ValidRequest, holder: str) -> Claim:
        key_id, request_id, attempt = self._row("key_id, request_id, attempt", seq)
        name, attempt = RequestName(key_id, request_id), attempt + 1
        self._execute(
            "UPDATE requests SET state = 'RUNNING', attempt = ?, holder = ?, started_at = ?, "
            "lease_until = ?, num_generated_tokens = 0 WHERE seq = ?",
            *(attempt, holder, now, now + self._settings.lease_seconds, seq),
        )
        self._execute("UPDATE progress SET last_tag = max(last_tag, ?)", tag)
        self._order.remove((tag, seq))
        self._order.begin(now)
        self._write(seq, name, (AttemptStarted(attempt),))
        return self._read_claim(seq, now, request)

    def _read_claim(self, seq: int, now: float, request: ValidRequest) -> Claim:
        key_id, request_id, attempt, holder = self._row("key_id, request_id, attempt, holder", seq)
        columns = "created_at, start_by, end_by, last_sequence, traceparent"
        created_at, start_by, end_by, last, parent = self._row(columns, seq)
        return Claim(
            name=RequestName(key_id, request_id),
            attempt=attempt,
            request=request,
            seconds_left=end_by - now,
            start_seconds_left=None if start_by is None else start_by - now,
            seconds_queued=_seconds_since(created_at, now),
            last_sequence=last,
            traceparent=parent,
            holder=holder,
        )

    def renew(self, claim: Claim) -> Lease:
        """As RequestStore.renew."""
        held = self._held(claim)
        if held is None:
            return Lease.LOST
        seq, is_cancelled = held
        until = time.time() + self._settings.lease_seconds
        self._execute("UPDATE requests SET lease_until = ? WHERE seq = ?", until, seq)
        return Lease.CANCELLED if is_cancelled else Lease.HELD

    def append(self, claim: Claim, after: int, happenings: Sequence[Happening]) -> Lease:
        """As RequestStore.append."""
        held = self._held(claim)
        if held is None:
            return Lease.LOST
        seq, is_cancelled = held
        (last,) = self._row("last_sequence", seq)
        if after > last:
            return Lease.LOST
        self._write(seq, claim.name, self._unwritten(seq, after, happenings))
        return Lease.CANCELLED if is_cancelled else Lease.HELD

    def finish(
        self, claim: Claim, after: int, happenings: Sequence[Happening], end: Finished | Failed
    ) -> Lease:
        """As RequestStore.finish."""
        held = self._held(claim)
        if held is None:
            return Lease.HELD if self._is_written(claim, end) else Lease.LOST
        seq, _ = held
        self._end(seq, self._unwritten(seq, after, happenings), end)
        return Lease.HELD

    def _is_written(self, claim: Claim, end: Finished | Failed) -> bool:
        """Tell whether the same worker has written this end already, by a call whose answer was lost."""
        return self._find_end(claim, claim.holder) == codec.encode_happening(end)

    def _find_end(self, claim: Claim, holder: str) -> bytes | None:
        """Return the end of a claim's request, if this is what its holder is called by then."""
        found = self._one(
            "SELECT data FROM requests JOIN ends USING (seq) "
            "WHERE key_id = ? AND request_id = ? AND holder = ?",
            *(*claim.name, holder),
        )
        return None if found is None else found[0]

    def _unwritten(self, seq: int, after: int, happenings: Sequence[Happening]) -> Sequence[Happening]:
        """Leave out what was written already, by a call whose answer was lost."""
        (last,) = self._row("last_sequence", seq)
        return happenings[max(0, last - after) :]  # before an end, fewer may be there

    def release(self, claim: Claim, reason: str, *, is_lost: bool) -> Lease:
        """As RequestStore.release."""
        held = self._held(claim)
        if held is None:
            return self._released_before(claim)
        seq, _ = held
        end = self._hand_back(seq, reason, is_lost=is_lost)
        if end is None:
            return Lease.HELD
        self._execute("UPDATE requests SET holder = ? WHERE seq = ?", _RELEASED_BY + claim.holder, seq)
        return _ENDED[type(end.error)]

    def _released_before(self, claim: Claim) -> Lease:
        """Tell how the same worker has ended the request by this, by a call whose answer was lost."""
        data = self._find_end(claim, _RELEASED_BY + claim.holder)
        end = None if data is None else codec.decode_end(data, claim.name)
        return _ENDED.get(type(end.error), Lease.LOST) if isinstance(end, Failed) else Lease.LOST

    def reap(self) -> Reaped:
        """As RequestStore.reap."""
        now = time.time()
        requeued, ended = 0, []
        for seq in self._numbers("state = 'RUNNING' AND lease_until < ?", now):
            stage, attempt, is_begun_once = self._row("stage, attempt, is_begun_once", seq)
            is_silent = stage in {None, Stage.QUEUED.value} and attempt < FIRST_SILENT_LOSS
            end = self._hand_back(seq, LOST_WORKER, is_lost=bool(is_begun_once or not is_silent))
            if end is None:
                requeued += 1
            else:
                ended.append(self._describe(seq, end, now))
        for column in ("start_by", "end_by"):
            for seq in self._numbers(f"state = 'QUEUED' AND {column} < ?", now):
                error = _overdue(now, *self._row("start_by, end_by", seq))
                if error is not None:
                    end = Failed(error)
                    self._end(seq, (), end)
                    ended.append(self._describe(seq, end, now))
        is_over = "expires_at < ? AND seq NOT IN (SELECT seq FROM deliveries)"
        for seq in self._numbers(is_over, now):
            self._forget(seq)
        return Reaped(requeued, tuple(ended))

    def _describe(self, seq: int, end: Failed, now: float) -> Ended:
        key_id, request_id, created_at = self._row("key_id, request_id, created_at", seq)
        return Ended(RequestName(key_id, request_id), end, _seconds_since(created_at, now))

    def claim_delivery(self, again_after_seconds: float, but_of: Collection[str] = ()) -> Delivery | None:
        """As RequestStore.claim_delivery."""
        holder = draw_holder()
        due = self._deliveries.claim(again_after_seconds, but_of, holder)
        if due is None:
            return None
        key_id, request_id, url, parent = self._row("key_id, request_id, webhook_url, traceparent", due.seq)
        record = self._views.get(RequestName(key_id, request_id))
        return Delivery(record, url, due.attempt, parent, holder)

    def settle_delivery(self, delivery: Delivery, retry_after_seconds: float | None) -> None:
        """As RequestStore.settle_delivery."""
        try:
            seq = self._views.find(delivery.record.name)
        except RequestNotFound:  # who settles late may find nothing
            return
        self._deliveries.settle(seq, delivery.record.name.key_id, delivery.holder, retry_after_seconds)

    def _held(self, claim: Claim) -> tuple[int, bool] | None:
        """Return number and wish to cancel of a claim that is still held."""
        held = self._one(
            "SELECT seq, is_cancelled FROM requests WHERE key_id = ? AND request_id = ? AND attempt = ? "
            "AND holder = ? AND state = 'RUNNING'",
            *(*claim.name, claim.attempt, claim.holder),
        )
        return None if held is None else (held[0], bool(held[1]))

    def _hand_back(self, seq: int, reason: str, *, is_lost: bool) -> Failed | None:
        """Queue a request again; return how it ended, if it did instead."""
        # Whatever end it comes to is not its worker's.
        freed = "UPDATE requests SET holder = '', num_losses = num_losses + ? WHERE seq = ?"
        self._execute(freed, is_lost, seq)
        error = self._why_over(seq, reason, is_lost=is_lost)
        if error is not None:
            end = Failed(error)
            self._end(seq, (), end)
            return end
        key_id, request_id, tag = self._row("key_id, request_id, tag", seq)
        self._write(seq, RequestName(key_id, request_id), (LogLine(f"handed back: {reason}"),))
        self._execute(
            "UPDATE requests SET state = 'QUEUED', lease_until = NULL, stage = NULL WHERE seq = ?", seq
        )
        self._order.add((tag, seq))
        self.topics.add(WORK)
        return None

    def _why_over(self, seq: int, reason: str, *, is_lost: bool) -> ServiceError | None:
        """Say why a request that is handed back is not to be begun again, if so."""
        columns = "is_cancelled, is_begun_once, stage, num_losses"
        is_cancelled, is_begun_once, stage, num_losses = self._row(columns, seq)
        if is_cancelled:
            return refusals.cancelled()
        if is_begun_once and (is_lost or (stage is not None and Stage(stage).is_begun)):
            return refusals.lost_once(reason)
        return refusals.attempts_exhausted(num_losses, reason) if num_losses >= MAX_LOSSES else None

    def _end(self, seq: int, happenings: Sequence[Happening], end: Finished | Failed) -> None:
        """Write the last event, and let the request be kept for its time."""
        key_id, request_id, tag, state, url, keep = self._row(
            "key_id, request_id, tag, state, webhook_url, coalesce(keep_seconds, 1e99)", seq
        )
        if state == State.QUEUED.value:
            self._order.remove((tag, seq))
        self._write(seq, RequestName(key_id, request_id), (*happenings, end))
        now = time.time()
        self._execute(
            "UPDATE requests SET state = ?, ended_at = ?, expires_at = ?, lease_until = NULL WHERE seq = ?",
            *(state_after(end).value, now, now + min(keep, self._settings.keep_seconds), seq),
        )
        self._execute("INSERT INTO ends VALUES (?, ?)", seq, codec.encode_happening(end))
        self._execute("DELETE FROM payloads WHERE seq = ?", seq)
        if url:
            self._deliveries.add(seq, key_id, now)
            self.topics.add(DELIVERIES)

    def _write(self, seq: int, name: RequestName, happenings: Sequence[Happening]) -> None:
        """Append events, and what they say of the request."""
        (last,) = self._row("last_sequence", seq)
        now = time.time()
        rows = [(seq, last + n, now, codec.encode_happening(h)) for n, h in enumerate(happenings, 1)]
        self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        stage, num_tokens = progress_of(happenings)
        self._execute(
            "UPDATE requests SET last_sequence = ?, stage = coalesce(?, stage), "
            "num_generated_tokens = coalesce(?, num_generated_tokens) WHERE seq = ?",
            *(last + len(rows), stage and stage.value, num_tokens, seq),
        )
        if stage is not None and stage.is_begun:
            self._execute("UPDATE requests SET start_by = NULL WHERE seq = ?", seq)
        self.topics.add(grown(name))

    def _forget(self, seq: int) -> None:
        for table in ("requests", "payloads", "ends", "events"):
            self._execute(f"DELETE FROM {table} WHERE seq = ?", seq)  # noqa: S608  # our own tables

    def _numbers(self, where: str, now: float) -> list[int]:
        """Return the numbers of some requests that are due."""
        query = f"SELECT seq FROM requests WHERE {where} LIMIT {_REAPED_AT_ONCE}"  # noqa: S608  # our own words
        return [row[0] for row in read_rows(self._connection, query, now)]

    def _row(self, columns: str, seq: int) -> Row:
        return read_row(self._connection, f"SELECT {columns} FROM requests WHERE seq = ?", seq)  # noqa: S608  # our own

    def _one(self, statement: str, *values: Any) -> Row | None:
        return find_row(self._connection, statement, *values)

    def _execute(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)


def _seconds_since(created_at: float, now: float) -> float:
    """Return how long a request has been here; the clock may have been set back."""
    return max(0.0, now - created_at)


def _overdue(now: float, start_by: float | None, end_by: float) -> ServiceError | None:
    """Say why a request that waits is not to be begun any more, if so."""
    if start_by is not None and now > start_by:
        return refusals.start_timeout()
    if now > end_by:
        return refusals.deadline_exceeded()
    return None
