"""Ask Idefics2 about images, over gRPC.

    with Client() as client:
        print(client.generate("cat.png", "What is on the sofa?").output)

`python -m idefics2_client`, installed as `idefics2`, is the same for the command line.
"""

from idefics2_client.client import Client
from idefics2_client.errors import (
    AuthenticationFailed,
    Cancelled,
    DeadlineExceeded,
    Idefics2Error,
    ImageUnreadable,
    InvalidRequest,
    Overloaded,
    ServiceFailed,
    ServiceUnavailable,
)
from idefics2_client.images import ImageSource
from idefics2_client.requests import Options

__all__ = [
    "AuthenticationFailed",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "Idefics2Error",
    "ImageSource",
    "ImageUnreadable",
    "InvalidRequest",
    "Options",
    "Overloaded",
    "ServiceFailed",
    "ServiceUnavailable",
]
