"""The extender's verbs. Each reads like its paragraph in the documentation, and does no I/O."""
