"""Downloads without a network."""

import contextlib
import resource
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def disk_of(n_bytes: int) -> Iterator[None]:
    """No file may grow beyond n bytes: a write then fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
