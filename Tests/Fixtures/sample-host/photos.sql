-- Adds photos to the sample library. Reads the temporary table `incoming`, one row per photo file that
-- is not in the library yet, and prints what has to be placed in the media folder:
--   verb <tab> source <tab> path in the container
-- with the verbs of sample-host: copy, preview (the first 48 KiB), thumbnail (the first 8 KiB), sidecar, motion.

-- Every third photo belongs to each of the three people; Cleo has a storage label and so a storage template.
CREATE TEMP TABLE arriving AS
SELECT i.n, i.sha1, i.size, i.taken, i.source, i.name, i.extension, i.motion_sha1, i.motion_size, u.id AS owner,
    u."storageLabel" AS label, md5('asset ' || i.sha1)::uuid AS id, md5('file ' || i.sha1)::uuid AS file,
    md5('motion ' || i.sha1)::uuid AS motion, md5('sidecar ' || i.sha1)::uuid AS sidecar
FROM incoming AS i
JOIN (SELECT *, row_number() OVER (ORDER BY "createdAt") - 1 AS place FROM "user") AS u ON i.n % 3 = u.place;

-- <two characters>/<two characters>/<name>: how Immich spreads files over folders.
CREATE FUNCTION pg_temp.spread(name text) RETURNS text LANGUAGE sql IMMUTABLE
AS $$ SELECT left(name, 2) || '/' || substr(name, 3, 2) || '/' || name $$;

INSERT INTO asset (id, "ownerId", type, "originalPath", "fileCreatedAt", "fileModifiedAt", checksum,
    "checksumAlgorithm", "originalFileName", "localDateTime", visibility, duration)
SELECT motion, owner, 'VIDEO', format('/data/encoded-video/%s/%s', owner, pg_temp.spread(motion || '-MP.mp4')),
    taken, taken, decode(motion_sha1, 'hex'), 'sha1', name || '.MP.mp4', taken, 'hidden', 2400
FROM arriving WHERE motion_sha1 IS NOT NULL;

INSERT INTO asset (id, "ownerId", type, "originalPath", "fileCreatedAt", "fileModifiedAt", checksum,
    "checksumAlgorithm", "originalFileName", "localDateTime", "livePhotoVideoId", status, "deletedAt",
    "isFavorite", visibility, thumbhash, width, height)
SELECT id, owner, 'IMAGE',
    CASE WHEN label IS NULL
        THEN format('/data/upload/%s/%s', owner, pg_temp.spread(file || '.' || extension))
        ELSE format('/data/library/%s/%s/%s/%s', label, to_char(taken, 'YYYY'), to_char(taken, 'YYYY-MM-DD'),
            name || CASE WHEN row_number() OVER (PARTITION BY owner, taken::date, name ORDER BY n) > 1
                THEN '+' || row_number() OVER (PARTITION BY owner, taken::date, name ORDER BY n) - 1
                ELSE '' END || '.' || extension)
    END,
    taken, taken, decode(sha1, 'hex'), 'sha1', name || '.' || extension, taken,
    CASE WHEN motion_sha1 IS NOT NULL THEN motion END,
    CASE WHEN n % 11 = 7 THEN 'trashed' ELSE 'active' END::assets_status_enum,
    CASE WHEN n % 11 = 7 THEN now() - interval '3 days' END,
    n % 6 = 0, CASE WHEN n % 13 = 9 THEN 'archive' ELSE 'timeline' END::asset_visibility_enum,
    decode(md5('thumbhash' || sha1), 'hex'), 4032, 3024
FROM arriving;

INSERT INTO asset_exif ("assetId", make, model, "exifImageWidth", "exifImageHeight", "fileSizeInByte",
    "dateTimeOriginal", latitude, longitude, city, description, "timeZone", rating)
SELECT id, 'Google', 'Pixel 8', 4032, 3024, size, taken, 43.3 + n / 1000.0, -1.98 - n / 1000.0, 'Donostia',
    CASE WHEN n % 5 = 2 THEN E'Näher,\tnot further\nThank you' ELSE '' END, 'UTC+2', 1 + n % 5
FROM arriving
UNION ALL
SELECT motion, 'Google', 'Pixel 8', 1440, 1080, motion_size, taken, NULL, NULL, NULL, '', NULL, NULL
FROM arriving WHERE motion_sha1 IS NOT NULL;

INSERT INTO asset_file ("assetId", type, path)
SELECT id, 'preview', format('/data/thumbs/%s/%s', owner, pg_temp.spread(id || '_preview.jpeg')) FROM arriving
UNION ALL
SELECT id, 'thumbnail', format('/data/thumbs/%s/%s', owner, pg_temp.spread(id || '_thumbnail.webp')) FROM arriving
UNION ALL
-- Uploaded with the photo, or written beside it by the storage template.
SELECT id, 'sidecar',
    CASE WHEN label IS NULL THEN format('/data/upload/%s/%s', owner, pg_temp.spread(sidecar || '.xmp'))
        ELSE (SELECT "originalPath" FROM asset WHERE asset.id = arriving.id) || '.xmp' END
FROM arriving WHERE n % 5 = 2;

INSERT INTO asset_job_status ("assetId", "metadataExtractedAt") SELECT id, now() FROM arriving;

INSERT INTO album_asset ("albumId", "assetId")
SELECT album.id, arriving.id FROM arriving
JOIN (SELECT id, row_number() OVER (ORDER BY "albumName") - 1 AS place FROM album WHERE "deletedAt" IS NULL) AS album
    ON arriving.n % 4 = album.place
WHERE arriving.n % 11 <> 7;

INSERT INTO tag_asset ("assetId", "tagId") SELECT id, md5('tag travel/sea')::uuid FROM arriving
WHERE n % 3 = 0 AND n % 2 = 0;

INSERT INTO asset_face (id, "assetId", "personId", "imageWidth", "imageHeight", "boundingBoxX1", "boundingBoxY1",
    "boundingBoxX2", "boundingBoxY2")
SELECT md5('face ' || arriving.sha1)::uuid, arriving.id, person.id, 1440, 1080, 300 + n % 50, 200, 520, 440
FROM arriving
JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM person) AS person ON n % 7 = person.place;
UPDATE person SET "faceAssetId" = (SELECT min(f.id::text)::uuid FROM asset_face AS f WHERE f."personId" = person.id)
WHERE "faceAssetId" IS NULL;

UPDATE album SET "albumThumbnailAssetId" =
    (SELECT min(a."assetId"::text)::uuid FROM album_asset AS a WHERE a."albumId" = album.id)
WHERE "albumThumbnailAssetId" IS NULL;

UPDATE "user" SET
    "quotaUsageInBytes" = "quotaUsageInBytes"
        + coalesce((SELECT sum(size + coalesce(motion_size, 0)) FROM arriving WHERE owner = "user".id), 0),
    "profileImagePath" = CASE WHEN "isAdmin"
        THEN format('/data/profile/%s/%s.jpeg', id, md5('profile ' || email)::uuid) ELSE '' END;

-- A storage template move that was interrupted after the file had arrived; Immich clears it on its next run.
INSERT INTO move_history ("entityId", "pathType", "oldPath", "newPath")
SELECT id, 'original', format('/data/upload/%s/%s', owner, pg_temp.spread(file || '.' || extension)),
    (SELECT "originalPath" FROM asset WHERE asset.id = arriving.id)
FROM arriving WHERE label IS NOT NULL ORDER BY n LIMIT 1
ON CONFLICT DO NOTHING;

\pset format unaligned
\pset tuples_only on
\pset fieldsep '\t'
SELECT 'copy', source, "originalPath" FROM arriving JOIN asset USING (id)
UNION ALL
SELECT 'motion', source, "originalPath" FROM arriving JOIN asset ON asset.id = motion
UNION ALL
SELECT f.type, source, path FROM arriving JOIN asset_file AS f ON f."assetId" = arriving.id
UNION ALL
(SELECT 'thumbnail', source, "profileImagePath" FROM arriving, "user" WHERE "profileImagePath" <> '' ORDER BY n LIMIT 1)
UNION ALL
SELECT 'thumbnail', (SELECT source FROM arriving ORDER BY n LIMIT 1), "thumbnailPath" FROM person
WHERE EXISTS (SELECT FROM arriving);
