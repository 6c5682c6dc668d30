"""Settings, roles and YAML; only jobs and apps read it."""
