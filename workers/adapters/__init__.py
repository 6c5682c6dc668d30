"""What answers the ports: rules and local engines here, services elsewhere."""
