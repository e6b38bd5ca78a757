"""HTTP: the verbs, health, metrics and the read-only API, by Flask on gunicorn."""
