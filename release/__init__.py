"""What is looked at before a release, and how one is made."""
