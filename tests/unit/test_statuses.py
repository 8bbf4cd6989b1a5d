"""Where a request stands, in the hosted endpoint's words."""

from __future__ import annotations

import pytest
from idefics2_service.events import Finished
from idefics2_service.requests import Priority, RequestName, State
from idefics2_service.rest.origins import Origin
from idefics2_service.rest.statuses import Writer
from idefics2_service.store.records import Record
from store.submissions import make_output

ONE = RequestName("anna", "one")


@pytest.mark.parametrize(("started_at", "seconds"), [(None, None), (98.0, 2.0), (3_700.0, 0.0)])
def test_no_work_took_less_than_no_time_though_the_clock_was_set_back_meanwhile(
    started_at: float | None, seconds: float | None
) -> None:
    writer = Writer(Origin({"queue": ""}), "o/a", ONE, has_logs=False, has_text=False)
    record = Record(
        ONE,
        State.SUCCEEDED,
        Priority.NORMAL,
        max_new_tokens=512,
        created_at=90.0,
        last_sequence=2,
        started_at=started_at,
        ended_at=100.0,
        end=Finished(make_output()),
    )
    assert writer.write(record)["metrics"]["inference_time"] == seconds
