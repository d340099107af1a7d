"""Forebay and its peers side by side: one command, one run, one machine. Figures are ratios of the same round."""
