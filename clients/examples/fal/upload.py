"""Upload a file with fal's own client, and print its URL: `upload.py PATH`."""

import sys

import fal_client

print(fal_client.upload_file(sys.argv[1]))
