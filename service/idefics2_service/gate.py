"""The gate behind every face: who a caller is, and whether there is room for one more call and its bytes."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from idefics2_service.budget import Budget
from idefics2_service.errors import AppNotAllowed, CallsFull, FaceNotAllowed, ServiceError
from idefics2_service.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from idefics2_service.budget import Reservation
    from idefics2_service.keys.quotas import Quotas
    from idefics2_service.keys.records import Face, Key
    from idefics2_service.keys.ring import KeyRing
    from idefics2_service.metrics import Metrics

_MAX_STRANGERS = 1_024
"""Calls about files without a key that may be open: they take no places of those who have one."""
PARTS_PER_STRANGERS = 16
"""Beside what keys may hold, such a part is for what comes without one: it takes nothing of theirs."""


class Gate:
    """Lets calls in."""

    def __init__(
        self,
        ring: KeyRing,
        quotas: Quotas,
        places: Shares,
        budget: Budget,
        metrics: Metrics,
        *,
        app_id: str,
    ) -> None:
        """Know callers by `ring`, count them in `quotas` and who is refused in `metrics`.

        Args:
            ring: knows all keys.
            quotas: what each key may do.
            places: for calls of all keys.
            budget: for bytes of all keys; what comes without one has a sixteenth of it beside it.
            metrics: counts who is refused, and what is let in.
            app_id: what is served here.

        """
        self._ring = ring
        self._quotas = quotas
        self._places = places
        self._budget = budget
        self._metrics = metrics
        self._app_id = app_id
        self._strangers = Shares(_MAX_STRANGERS)
        self._strangers_budget = strangers_budget = Budget(
            budget.capacity // PARTS_PER_STRANGERS, tell_refusal=metrics.record_refusal
        )
        metrics.keys_current.set_function(lambda: ring.is_current)
        metrics.open_calls.set_function(lambda: places.num_taken)
        metrics.held_bytes.set_function(lambda: budget.num_bytes + strangers_budget.num_bytes)
        metrics.max_open_calls.set(places.capacity)
        metrics.max_held_bytes.set(budget.capacity + strangers_budget.capacity)

    @property
    def max_open_calls(self) -> int:
        """How many calls of all keys may be open, but for those that are not counted."""
        return self._places.capacity

    @contextmanager
    def admit(self, authorization: str | None, face: Face, *, is_counted: bool = True) -> Iterator[Key]:
        """Hold a call's place, and yield its key.

        Args:
            authorization: the header of this name.
            face: where the call came in.
            is_counted: whether limits are asked; if not, it is let in however many are open.

        Raises:
            Unauthenticated: no key, or one that is not in force.
            FaceNotAllowed, AppNotAllowed: the key may not be used here.
            QuotaExceeded: the key's limits leave no room, or others do.

        """
        with ExitStack() as place:
            with self._counting_refusals():
                key = self._ring.authenticate(authorization)
                self._check_allowed(key, face)
                if is_counted:
                    self._check_places(key.id)
                    place.enter_context(self._quotas.admit(key))
            self._places.take(key.id)
            place.callback(self._places.give_back, key.id)
            yield key

    @contextmanager
    def admit_bearer(self, key_id: str, num_bytes: int) -> Iterator[None]:
        """Hold place and bytes of a call that brings what a key announced, and shows no key itself.

        Such calls may come at any rate: those that announced did not.

        Raises:
            Unauthenticated: the key is not in force any more.
            QuotaExceeded: the key's limits leave no room, or others do.

        """
        with ExitStack() as place:
            with self._counting_refusals():
                key = self._ring.find(key_id)
                self._check_places(key_id)
                place.enter_context(self._quotas.open(key))
            self._places.take(key_id)
            place.callback(self._places.give_back, key_id)
            place.enter_context(self.hold(key_id, num_bytes))
            yield

    @contextmanager
    def admit_stranger(self, address: str) -> Iterator[None]:
        """Hold the place of a call that shows no key, for the address it comes from.

        Raises:
            CallsFull: others, or calls from there, leave no room.

        """
        if not self._strangers.has_room(address):
            held = self._strangers.describe(address, "address")
            error = CallsFull(
                f"too many calls without a key are open: {held}",
                bound=str(_MAX_STRANGERS),
                value=str(self._strangers.num_taken),
            )
            self._metrics.record_refusal(error)
            raise error
        self._strangers.take(address)
        try:
            yield
        finally:
            self._strangers.give_back(address)

    def hold(self, key_id: str, num_bytes: int) -> AbstractContextManager[Reservation]:
        """Hold the bytes of what a call of a key sends: at best before they are read.

        Raises:
            MemoryFull: there is no room for them now.

        """
        return self._budget.hold(key_id, num_bytes)

    def hold_for_stranger(self, address: str, num_bytes: int) -> AbstractContextManager[Reservation]:
        """Hold the bytes of what a call that shows no key sends, for the address it comes from.

        Raises:
            MemoryFull: there is no room for them now, among all that come without a key.

        """
        return self._strangers_budget.hold(address, num_bytes)

    def open_room(self, key_id: str) -> AbstractContextManager[Reservation]:
        """Hold nothing yet of what a call is going to read: it asks for room as it goes on."""
        return self._budget.hold(key_id, 0)

    def check(self, key: Key) -> None:
        """Look whether a key is still in force, by the secret that it was let in with: a call may take long.

        Raises:
            Unauthenticated: it is not.

        """
        with self._counting_refusals():
            self._ring.confirm(key)

    def _check_allowed(self, key: Key, face: Face) -> None:
        if face not in key.faces:
            allowed = " and ".join(allowed.value for allowed in key.faces)
            raise FaceNotAllowed(f"this key may not be used over {face.value}, only over {allowed}")
        if key.apps is not None and self._app_id not in key.apps:
            allowed = " and ".join(key.apps)
            raise AppNotAllowed(f"this key may not be used for {self._app_id}, only for {allowed}")

    def _check_places(self, key_id: str) -> None:
        if not self._places.has_room(key_id):
            message = f"too many calls are open: {self._places.describe(key_id)}"
            raise CallsFull(message, bound=str(self.max_open_calls), value=str(self._places.num_taken))

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except ServiceError as error:
            self._metrics.record_refusal(error)
            raise
