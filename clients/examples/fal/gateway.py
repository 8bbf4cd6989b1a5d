"""Point fal's client at a gateway: import this before the first call."""

import os

import fal_client.client

GATEWAY = os.environ.get("GATEWAY", "http://127.0.0.1:8080")
fal_client.client.RUN_URL_FORMAT = f"{GATEWAY}/run/"
fal_client.client.QUEUE_URL_FORMAT = f"{GATEWAY}/queue/"
fal_client.client.REST_URL = f"{GATEWAY}/rest"
fal_client.client.CDN_URL = f"{GATEWAY}/cdn"
