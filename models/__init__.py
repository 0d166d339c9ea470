"""Victims: MAIL, Robust-MAIL and fusion baselines behind one contract, `contract.Victim`."""
