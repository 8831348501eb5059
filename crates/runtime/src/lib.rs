//! Turns an OCI bundle into a running, confined process, and signals, execs into, inspects and deletes it.
