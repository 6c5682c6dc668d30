"""What Databricks answers: SQL warehouses through the statement execution API."""
