"""Comparisons of defences: the table, paired statistics, the verdict, the Pareto figure."""
