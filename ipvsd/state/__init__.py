"""State in /run and /var/lib that is kept across restarts, read back with distrust."""
