"""What a user asks for, from its specification to its records: run, train, compare, certify,
diagnose.
"""
