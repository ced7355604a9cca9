"""Reports for people and machines: messages, counters, metrics, status document, HTTP endpoint."""
