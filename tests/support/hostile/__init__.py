"""Hostile inputs by category, what each must end in, and a runner that judges what came of them."""

from support.hostile.case import CATEGORIES, LEFT_OUT, REFUSED, Case, cases

__all__ = ["CATEGORIES", "LEFT_OUT", "REFUSED", "Case", "cases"]
