"""Tables of pairs as people write them: delimited text and JSON."""
