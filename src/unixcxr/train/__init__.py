"""Change weights: stages, losses, optimiser, averages, checkpoints and the loop that runs them."""
