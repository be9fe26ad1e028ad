"""One module a kind of evaluation, each with its ``KIND``; they are found by being here."""
