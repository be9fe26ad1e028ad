"""``python -m cliplab``."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command listens: no traceback of an import

from cliplab.cli import main  # noqa: E402

main()
