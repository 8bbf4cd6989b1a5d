"""Idefics2 behind a three-verb seam: `add` a request, `step` all of them, `cancel` one.

Knows neither Triton nor gRPC: `1/model.py` is the adaptor. One instance lives on one device.
"""
