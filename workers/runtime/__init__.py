"""What runs workers: hosts, instances, inboxes, the runner, leases and the registry."""
