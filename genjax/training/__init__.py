"""The trainer, its hooks, checkpoints, and what training scripts share."""
