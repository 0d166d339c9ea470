"""Readers: published archives to listings: ids, labels, groups, splits, and where each image
lies.
"""
