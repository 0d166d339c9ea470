"""Doors: each format that others may write is read in one function here. Whatever is wrong with a
file becomes one line that names it, before much memory or time is spent.
"""
