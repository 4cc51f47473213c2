"""Floor 6: what people look at. Verdict files, plots."""
