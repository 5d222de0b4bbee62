"""Sweeps over many treatments of a network, as work units; and where their results are kept."""
