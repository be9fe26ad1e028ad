"""``python -m cliplab``."""

from cliplab.cli import main

main()
