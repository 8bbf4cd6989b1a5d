"""The recipe of the embedded checkpoint: draws pictures, asks about them, trains a small Idefics2, measures it."""
