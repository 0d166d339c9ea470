"""Broken and honest victims on real images, and for each broken one an attack that knows what is
wrong with it.

A victim is a class `(channels, class_counts)` in a file here, so that medrobust takes it as a user's
own: `--model tests/support/broken/gradients.py:WrongStraightThrough` with this folder's parents on
PYTHONPATH. Most wrap one network that was trained for all of them.
"""
