CREATE TABLE repositories (name TEXT PRIMARY KEY, created_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE repository_blobs (
    repository TEXT NOT NULL, digest TEXT NOT NULL, seen_ns INTEGER NOT NULL, PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blobs_digest ON repository_blobs (digest);
CREATE TABLE repository_manifests (
    repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
    artifact_type TEXT NOT NULL, subject TEXT, annotations TEXT NOT NULL, seen_ns INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_manifests_subject
    ON repository_manifests (repository, subject, digest) WHERE subject IS NOT NULL;
CREATE TABLE repository_contents (
    repository TEXT NOT NULL, manifest TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (repository, manifest, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_contents_digest ON repository_contents (repository, digest);
CREATE TABLE repository_tags (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, updated_ns INTEGER NOT NULL,
    PRIMARY KEY (repository, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_tags_digest ON repository_tags (repository, digest);
CREATE TABLE repository_uploads (
    id TEXT PRIMARY KEY, repository TEXT NOT NULL, created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
