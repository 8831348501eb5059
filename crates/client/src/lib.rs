//! Calls an Engine API over any transport: unix, TCP, TLS and ssh; hijacking, contexts and credentials.
