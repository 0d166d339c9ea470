"""Settings of small comparisons."""

RECIPE = [
    "--size",
    32,
    "--model-param",
    "width=4",
    "--recipe",
    "steps=4",
    "--recipe",
    "eval_every=2",
    "--recipe",
    "batch_size=8",
]
