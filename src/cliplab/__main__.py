"""``python -m cliplab``, and the installed command ``cliplab``."""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command listens: no traceback of an import

from cliplab.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
