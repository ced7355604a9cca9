"""The process itself: event loop, log, sd_notify, privileges, descriptors, files below the root, HTTP server."""
