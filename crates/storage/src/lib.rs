//! Content-addressed blobs, layers, snapshots, image records and metadata in one garbage-collected store on a directory.
