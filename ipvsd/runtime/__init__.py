"""The process itself: event loop, log, sd_notify, privileges, descriptors, files under the root, HTTP server."""
