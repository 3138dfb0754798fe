"""MLflow's scoring protocol: /invocations, and the probes that its clients ask."""
