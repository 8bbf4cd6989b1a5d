"""Ask Idefics2 about images, over gRPC.

    with Client() as client:
        print(client.generate("cat.png", "What is on the sofa?").output)

`AsyncClient` is the same for asyncio. `python -m idefics2_client`, installed as `idefics2`, is the same for
the command line.
"""

import os

# What goes wrong with a connection is told by errors and by `Retry.on_lost`. grpc, which looks here when it
# is imported, would write it on standard error as well, into the middle of what a terminal shows.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from idefics2_client.aio import AsyncClient
from idefics2_client.caller import ClientOptions
from idefics2_client.client import Client
from idefics2_client.contents import FileSource
from idefics2_client.errors import (
    AlreadyExists,
    AuthenticationFailed,
    Cancelled,
    DeadlineExceeded,
    Idefics2Error,
    ImageNotFound,
    ImageUnreadable,
    InvalidRequest,
    NotFinished,
    NotFound,
    Overloaded,
    ServiceFailed,
    ServiceUnavailable,
    SettingInvalid,
)
from idefics2_client.failures import read_failure
from idefics2_client.file_names import FileName
from idefics2_client.images import ImageSource
from idefics2_client.requests import Options
from idefics2_client.retry import Retry
from idefics2_client.submission import SubmitOptions
from idefics2_client.updates import QueueUpdate, TextUpdate, TransferUpdate

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "AuthenticationFailed",
    "Cancelled",
    "Client",
    "ClientOptions",
    "DeadlineExceeded",
    "FileName",
    "FileSource",
    "Idefics2Error",
    "ImageNotFound",
    "ImageSource",
    "ImageUnreadable",
    "InvalidRequest",
    "NotFinished",
    "NotFound",
    "Options",
    "Overloaded",
    "QueueUpdate",
    "Retry",
    "ServiceFailed",
    "ServiceUnavailable",
    "SettingInvalid",
    "SubmitOptions",
    "TextUpdate",
    "TransferUpdate",
    "read_failure",
]
