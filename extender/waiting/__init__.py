"""Pods that this program refused: what they wait for, and whom to wake when it comes true."""
