UPDATE blobs SET images = (SELECT count(*) FROM refs WHERE kind = 'blob' AND target = digest AND owner_kind = 'image');
UPDATE layers SET images = (SELECT count(*) FROM refs WHERE kind = 'layer' AND target = diff_id AND owner_kind = 'image');
UPDATE images SET
    content_bytes = (SELECT coalesce(sum(size), 0) FROM refs JOIN blobs ON digest = target
        WHERE owner_kind = 'image' AND owner = images.id AND kind = 'blob'),
    unpacked_bytes = (SELECT coalesce(sum(disk_bytes), 0) FROM refs JOIN layers ON diff_id = target
        WHERE owner_kind = 'image' AND owner = images.id AND kind = 'layer');
DELETE FROM totals;
INSERT INTO totals SELECT 'blobs', count(*), coalesce(sum(size), 0) FROM blobs;
INSERT INTO totals SELECT 'image blobs', count(*), coalesce(sum(size), 0) FROM blobs WHERE images > 0;
INSERT INTO totals SELECT 'layers', count(*), coalesce(sum(disk_bytes), 0) FROM layers;
INSERT INTO totals SELECT 'image layers', count(*), coalesce(sum(disk_bytes), 0) FROM layers WHERE images > 0;
INSERT INTO totals SELECT 'snapshots', count(*), 0 FROM snapshots;
INSERT INTO totals SELECT 'images', count(*), 0 FROM images;
