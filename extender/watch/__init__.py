"""From the apiserver to typed objects: one list+watch loop a kind, and how fresh each one is."""
