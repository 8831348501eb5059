//! The Docker Engine API as data: the newest types, version rules and stream framings.
