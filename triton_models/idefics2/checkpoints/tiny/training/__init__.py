"""The recipe of the embedded checkpoint: draws, asks, trains and judges a small Idefics2."""
