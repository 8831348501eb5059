//! Plain data for the OCI image, runtime and distribution specifications.
