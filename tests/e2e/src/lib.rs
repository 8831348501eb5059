//! What a user sees, through the real binary: the tests are under `tests/`.
