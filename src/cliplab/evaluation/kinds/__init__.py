"""One module for each kind of evaluation, with its ``KIND``. All modules here are found."""
