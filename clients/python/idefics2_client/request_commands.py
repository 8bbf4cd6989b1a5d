"""What the command line does with requests that outlive it."""

from __future__ import annotations

import sys
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

from idefics2.v1.generation_pb2 import Finished
from idefics2.v1.requests_pb2 import State

from idefics2_client.commands import choose_display, choose_transfer, connect, read_call
from idefics2_client.failures import read_failure
from idefics2_client.names import write_name
from idefics2_client.outcome import MAX_PAGE_SIZE, write_json, write_lines, write_response
from idefics2_client.report import HEADING, describe_request, summarize_request, write_logs, write_request
from idefics2_client.text import fit

if TYPE_CHECKING:
    from argparse import Namespace

    from idefics2.v1.requests_pb2 import Request


def submit(arguments: Namespace) -> None:
    """Print the name of a request that was taken.

    Raises:
        Idefics2Error: it was refused, or may not have been taken.

    """
    with choose_transfer() as transfer, connect(arguments, transfer) as client:
        request = client.submit(**read_call(arguments))
    if arguments.json:
        write_json(sys.stdout, write_request(request))
    else:
        write_lines([request.request_id])


def watch(arguments: Namespace) -> None:
    """Show what happened and what happens, to the end; leaving does not cancel.

    Raises:
        Idefics2Error: the request ended without an answer, or cannot be watched.

    """
    finished = Finished()
    with (
        choose_display(arguments) as display,
        connect(arguments, display) as client,
        closing(
            client.watch(arguments.request_id, arguments.after, timeout_seconds=arguments.timeout_seconds)
        ) as events,
    ):
        for event in events:
            display.show(event)
            finished = event.finished
    if finished.HasField("failure"):
        raise read_failure(finished.failure, arguments.request_id)


def status(arguments: Namespace) -> None:
    """Print where a request stands.

    Raises:
        Idefics2Error: there is none, or the service does not answer.

    """
    with connect(arguments) as client:
        request = client.get_request(
            arguments.request_id, logs=arguments.logs, timeout_seconds=arguments.timeout_seconds
        )
    if arguments.json:
        logs = {"logs": write_logs(request)} if arguments.logs else {}
        write_json(sys.stdout, {**write_request(request), **logs})
    else:
        write_lines(describe_request(request))


def result(arguments: Namespace) -> None:
    """Print the answer.

    Raises:
        Idefics2Error: there is none yet, or none at all.

    """
    with connect(arguments) as client:
        response = client.result(
            arguments.request_id, wait=arguments.wait, timeout_seconds=arguments.timeout_seconds
        )
    if arguments.json:
        write_json(sys.stdout, write_response(response))
    else:
        sys.stdout.write(fit(response.output, sys.stdout) + "\n")
        sys.stdout.flush()


def cancel(arguments: Namespace) -> None:
    """Cancel, and print the state that the request is in.

    Raises:
        Idefics2Error: there is none, or the service does not answer.

    """
    with connect(arguments) as client:
        request = client.cancel(arguments.request_id, timeout_seconds=arguments.timeout_seconds)
    if arguments.json:
        write_json(sys.stdout, write_request(request))
    else:
        write_lines([write_name(State.DESCRIPTOR, request.state)])


def list_requests(arguments: Namespace) -> None:
    """Print a row, or a JSON object, for each request.

    Raises:
        Idefics2Error: the service does not answer.

    """
    write = _write_object if arguments.json else _write_row
    with connect(arguments) as client:
        requests = client.list_requests(
            arguments.state,
            page_size=min(arguments.limit, MAX_PAGE_SIZE),
            timeout_seconds=arguments.timeout_seconds,
        )
        if not arguments.json:
            write_lines([HEADING])
        for request in islice(requests, arguments.limit):
            write(request)


def _write_object(request: Request) -> None:
    write_json(sys.stdout, write_request(request))


def _write_row(request: Request) -> None:
    write_lines([summarize_request(request)])
