"""One cell: the protocol, its figures, the signs that an attack failed."""
