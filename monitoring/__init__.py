"""The Grafana dashboard of deploy/monitoring, made from code (``python -m monitoring``)."""
