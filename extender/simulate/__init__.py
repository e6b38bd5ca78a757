"""Where pods of one manifest would go, one after another, over a cluster that is only imagined."""
