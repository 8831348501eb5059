ALTER TABLE blobs ADD COLUMN images INTEGER NOT NULL DEFAULT 0;
ALTER TABLE layers ADD COLUMN images INTEGER NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN content_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN unpacked_bytes INTEGER NOT NULL DEFAULT 0;
CREATE TABLE parts (
    digest TEXT NOT NULL, image TEXT NOT NULL, PRIMARY KEY (digest, image)
) STRICT, WITHOUT ROWID;
CREATE INDEX parts_image ON parts (image);
CREATE TABLE totals (
    what TEXT PRIMARY KEY, count INTEGER NOT NULL, bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE loose (
    kind TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (kind, target)
) STRICT, WITHOUT ROWID;

UPDATE blobs SET images = (SELECT count(*) FROM refs WHERE kind = 'blob' AND target = digest AND owner_kind = 'image');
UPDATE layers SET images = (SELECT count(*) FROM refs WHERE kind = 'layer' AND target = diff_id AND owner_kind = 'image');
UPDATE images SET
    content_bytes = (SELECT coalesce(sum(size), 0) FROM refs JOIN blobs ON digest = target
        WHERE owner_kind = 'image' AND owner = images.id AND kind = 'blob'),
    unpacked_bytes = (SELECT coalesce(sum(disk_bytes), 0) FROM refs JOIN layers ON diff_id = target
        WHERE owner_kind = 'image' AND owner = images.id AND kind = 'layer');
INSERT OR IGNORE INTO parts
    SELECT json_extract(value, '$.digest'), images.id FROM images, json_each(images.json, '$.manifests')
    UNION SELECT json_extract(value, '$.config'), images.id FROM images, json_each(images.json, '$.manifests');
INSERT INTO totals SELECT 'blobs', count(*), coalesce(sum(size), 0) FROM blobs;
INSERT INTO totals SELECT 'image blobs', count(*), coalesce(sum(size), 0) FROM blobs WHERE images > 0;
INSERT INTO totals SELECT 'layers', count(*), coalesce(sum(disk_bytes), 0) FROM layers;
INSERT INTO totals SELECT 'image layers', count(*), coalesce(sum(disk_bytes), 0) FROM layers WHERE images > 0;
INSERT INTO totals SELECT 'snapshots', count(*), 0 FROM snapshots;
INSERT INTO totals SELECT 'images', count(*), 0 FROM images;
INSERT INTO loose SELECT 'blob', digest FROM blobs;
INSERT INTO loose SELECT 'layer', diff_id FROM layers;
INSERT INTO loose SELECT 'snapshot', id FROM snapshots;

CREATE TRIGGER blobs_came AFTER INSERT ON blobs BEGIN
    UPDATE totals SET count = count + 1, bytes = bytes + NEW.size WHERE what = 'blobs';
    UPDATE blobs SET images = (SELECT count(*) FROM refs
        WHERE kind = 'blob' AND target = NEW.digest AND owner_kind = 'image') WHERE digest = NEW.digest;
    UPDATE images SET content_bytes = content_bytes + NEW.size WHERE id IN
        (SELECT owner FROM refs WHERE kind = 'blob' AND target = NEW.digest AND owner_kind = 'image');
    INSERT OR IGNORE INTO loose VALUES ('blob', NEW.digest);
END;
CREATE TRIGGER blobs_changed AFTER UPDATE OF images ON blobs WHEN (NEW.images > 0) <> (OLD.images > 0) BEGIN
    UPDATE totals SET count = count + (NEW.images > 0) - (OLD.images > 0),
        bytes = bytes + ((NEW.images > 0) - (OLD.images > 0)) * NEW.size WHERE what = 'image blobs';
END;
CREATE TRIGGER blobs_went AFTER DELETE ON blobs BEGIN
    UPDATE totals SET count = count - 1, bytes = bytes - OLD.size
        WHERE what = 'blobs' OR (what = 'image blobs' AND OLD.images > 0);
    UPDATE images SET content_bytes = content_bytes - OLD.size WHERE id IN
        (SELECT owner FROM refs WHERE kind = 'blob' AND target = OLD.digest AND owner_kind = 'image');
END;

CREATE TRIGGER layers_came AFTER INSERT ON layers BEGIN
    UPDATE totals SET count = count + 1, bytes = bytes + NEW.disk_bytes WHERE what = 'layers';
    UPDATE layers SET images = (SELECT count(*) FROM refs
        WHERE kind = 'layer' AND target = NEW.diff_id AND owner_kind = 'image') WHERE id = NEW.id;
    UPDATE images SET unpacked_bytes = unpacked_bytes + NEW.disk_bytes WHERE id IN
        (SELECT owner FROM refs WHERE kind = 'layer' AND target = NEW.diff_id AND owner_kind = 'image');
    INSERT OR IGNORE INTO loose VALUES ('layer', NEW.diff_id);
END;
CREATE TRIGGER layers_changed AFTER UPDATE OF images ON layers WHEN (NEW.images > 0) <> (OLD.images > 0) BEGIN
    UPDATE totals SET count = count + (NEW.images > 0) - (OLD.images > 0),
        bytes = bytes + ((NEW.images > 0) - (OLD.images > 0)) * NEW.disk_bytes WHERE what = 'image layers';
END;
CREATE TRIGGER layers_grew AFTER UPDATE OF disk_bytes ON layers WHEN NEW.disk_bytes <> OLD.disk_bytes BEGIN
    UPDATE totals SET bytes = bytes + NEW.disk_bytes - OLD.disk_bytes
        WHERE what = 'layers' OR (what = 'image layers' AND NEW.images > 0);
    UPDATE images SET unpacked_bytes = unpacked_bytes + NEW.disk_bytes - OLD.disk_bytes WHERE id IN
        (SELECT owner FROM refs WHERE kind = 'layer' AND target = NEW.diff_id AND owner_kind = 'image');
END;
CREATE TRIGGER layers_went AFTER DELETE ON layers BEGIN
    UPDATE totals SET count = count - 1, bytes = bytes - OLD.disk_bytes
        WHERE what = 'layers' OR (what = 'image layers' AND OLD.images > 0);
    UPDATE images SET unpacked_bytes = unpacked_bytes - OLD.disk_bytes WHERE id IN
        (SELECT owner FROM refs WHERE kind = 'layer' AND target = OLD.diff_id AND owner_kind = 'image');
END;

CREATE TRIGGER snapshots_came AFTER INSERT ON snapshots BEGIN
    UPDATE totals SET count = count + 1 WHERE what = 'snapshots';
    INSERT OR IGNORE INTO loose VALUES ('snapshot', NEW.id);
END;
CREATE TRIGGER snapshots_went AFTER DELETE ON snapshots BEGIN
    UPDATE totals SET count = count - 1 WHERE what = 'snapshots';
END;
CREATE TRIGGER snapshot_layers_went AFTER DELETE ON snapshot_layers BEGIN
    INSERT OR IGNORE INTO loose SELECT 'layer', diff_id FROM layers WHERE id = OLD.layer;
END;

CREATE TRIGGER images_came AFTER INSERT ON images BEGIN
    UPDATE totals SET count = count + 1 WHERE what = 'images';
    INSERT OR IGNORE INTO parts
        SELECT json_extract(value, '$.digest'), NEW.id FROM json_each(NEW.json, '$.manifests')
        UNION SELECT json_extract(value, '$.config'), NEW.id FROM json_each(NEW.json, '$.manifests');
END;
CREATE TRIGGER images_changed AFTER UPDATE OF json ON images WHEN NEW.json <> OLD.json BEGIN
    DELETE FROM parts WHERE image = NEW.id;
    INSERT OR IGNORE INTO parts
        SELECT json_extract(value, '$.digest'), NEW.id FROM json_each(NEW.json, '$.manifests')
        UNION SELECT json_extract(value, '$.config'), NEW.id FROM json_each(NEW.json, '$.manifests');
END;
CREATE TRIGGER images_went AFTER DELETE ON images BEGIN
    UPDATE totals SET count = count - 1 WHERE what = 'images';
    DELETE FROM parts WHERE image = OLD.id;
END;

CREATE TRIGGER refs_came AFTER INSERT ON refs WHEN NEW.owner_kind = 'image' BEGIN
    UPDATE images SET content_bytes = content_bytes + (SELECT size FROM blobs WHERE digest = NEW.target)
        WHERE id = NEW.owner AND NEW.kind = 'blob' AND EXISTS (SELECT 1 FROM blobs WHERE digest = NEW.target);
    UPDATE images SET unpacked_bytes = unpacked_bytes + (SELECT disk_bytes FROM layers WHERE diff_id = NEW.target)
        WHERE id = NEW.owner AND NEW.kind = 'layer' AND EXISTS (SELECT 1 FROM layers WHERE diff_id = NEW.target);
    UPDATE blobs SET images = images + 1 WHERE digest = NEW.target AND NEW.kind = 'blob';
    UPDATE layers SET images = images + 1 WHERE diff_id = NEW.target AND NEW.kind = 'layer';
END;
CREATE TRIGGER refs_of_images_went AFTER DELETE ON refs WHEN OLD.owner_kind = 'image' BEGIN
    UPDATE images SET content_bytes = content_bytes - (SELECT size FROM blobs WHERE digest = OLD.target)
        WHERE id = OLD.owner AND OLD.kind = 'blob' AND EXISTS (SELECT 1 FROM blobs WHERE digest = OLD.target);
    UPDATE images SET unpacked_bytes = unpacked_bytes - (SELECT disk_bytes FROM layers WHERE diff_id = OLD.target)
        WHERE id = OLD.owner AND OLD.kind = 'layer' AND EXISTS (SELECT 1 FROM layers WHERE diff_id = OLD.target);
    UPDATE blobs SET images = images - 1 WHERE digest = OLD.target AND OLD.kind = 'blob';
    UPDATE layers SET images = images - 1 WHERE diff_id = OLD.target AND OLD.kind = 'layer';
END;
CREATE TRIGGER refs_went AFTER DELETE ON refs BEGIN
    INSERT OR IGNORE INTO loose VALUES (OLD.kind, OLD.target);
END;
