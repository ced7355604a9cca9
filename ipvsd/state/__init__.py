"""State in /run and /var/lib that is kept across restarts; readers validate it."""
