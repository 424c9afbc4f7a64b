"""What stands behind the ports: files, stores and learning libraries."""
