"""The node cache: fetches models, proves and publishes them, reports them, makes room."""
