"""The configuration of kube-proxy: its fields, its formats, the findings about it, and its corrections."""
