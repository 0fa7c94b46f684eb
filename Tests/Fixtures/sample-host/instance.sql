-- What a server that has run for a while holds before its first photo: people, settings, places.
-- psql variables: version (Immich's, as v3.1.0), places (rows of place names).

INSERT INTO "user" (id, email, password, name, "isAdmin", "storageLabel", "shouldChangePassword", "createdAt")
SELECT md5('user ' || email)::uuid, email, '$2b$10$' || md5(email) || left(md5(name), 21), name, admin, label,
    false, timestamptz '2024-03-01 09:00:00+00' + n * interval '1 day'
FROM (
    VALUES
        (1, 'ada@example.org', 'Ada', true, NULL),
        (2, 'bo@example.org', 'Bo Sörensen', false, NULL),
        (3, 'cleo@example.org', 'Cleo', false, 'cleo')
) AS people (n, email, name, admin, label);

INSERT INTO user_metadata ("userId", key, value)
SELECT id, 'preferences', '{"memories": {"enabled": true}, "people": {"enabled": true}}' FROM "user";

INSERT INTO api_key (name, key, "userId", permissions)
SELECT 'Phone widget', sha256(convert_to(email, 'UTF8')), id, ARRAY['asset.read', 'album.read'] FROM "user";

INSERT INTO session (token, "userId", "deviceType", "deviceOS")
SELECT sha256(convert_to(email || device, 'UTF8')), id, device, os
FROM "user", (VALUES ('Chrome', 'Linux'), ('', 'Android')) AS devices (device, os);

INSERT INTO partner ("sharedById", "sharedWithId", "inTimeline")
SELECT md5('user ada@example.org')::uuid, md5('user bo@example.org')::uuid, true;

INSERT INTO person (id, "ownerId", name, "thumbnailPath", "birthDate")
SELECT md5('person ' || name)::uuid, md5('user ada@example.org')::uuid, name,
    format('/data/thumbs/%s/%s/%s/%s.jpeg', md5('user ada@example.org')::uuid, left(md5('person ' || name), 2),
        substr(md5('person ' || name), 3, 2), md5('person ' || name)::uuid),
    born
FROM (VALUES ('Grandma', date '1944-05-17'), ('Émile', date '2016-09-02'), ('', NULL)) AS people (name, born);

INSERT INTO tag (id, "userId", value, "parentId")
VALUES
    (md5('tag travel')::uuid, md5('user ada@example.org')::uuid, 'travel', NULL),
    (md5('tag travel/sea')::uuid, md5('user ada@example.org')::uuid, 'travel/sea', md5('tag travel')::uuid);
INSERT INTO tag_closure
VALUES
    (md5('tag travel')::uuid, md5('tag travel')::uuid),
    (md5('tag travel/sea')::uuid, md5('tag travel/sea')::uuid),
    (md5('tag travel')::uuid, md5('tag travel/sea')::uuid);

INSERT INTO album (id, "albumName", description, "createdAt", "deletedAt")
SELECT md5('album ' || name)::uuid, name, description, timestamptz '2024-06-01 12:00:00+00', removed
FROM (
    VALUES
        ('Summer', 'Two weeks' || chr(10) || 'by the sea', NULL),
        ('Garden	and balcony', 'a name with a tab', NULL),
        ('Émile''s birthday', E'back\\slash', NULL),
        ('Forgotten', '', now() - interval '5 days')
) AS albums (name, description, removed);
INSERT INTO album_user ("albumId", "userId", role)
SELECT id, md5('user ada@example.org')::uuid, 'owner'::album_user_role_enum FROM album
UNION ALL
SELECT id, md5('user bo@example.org')::uuid, 'viewer' FROM album WHERE "albumName" = 'Summer';

INSERT INTO shared_link ("userId", key, type, "albumId", slug)
SELECT md5('user ada@example.org')::uuid, sha256('summer'), 'ALBUM', id, 'summer' FROM album
WHERE "albumName" = 'Summer';

-- Place names fill most of a small Immich's dump, and never change.
INSERT INTO geodata_places (id, name, longitude, latitude, "countryCode", "admin1Code", "modificationDate",
    "admin1Name", "alternateNames")
SELECT 2000000 + n, initcap(substr(md5('place' || n), 1, 4 + n % 9)), (n * 7919 % 36000) / 100.0 - 180,
    (n * 104729 % 18000) / 100.0 - 90, chr(65 + n % 26) || chr(65 + n / 26 % 26), lpad((n % 90)::text, 2, '0'),
    date '2015-01-01' + n % 3000, initcap(substr(md5('region' || n % 400), 1, 8)),
    md5('other name' || n) || ',' || md5('another' || n)
FROM generate_series(1, :places) AS n;

INSERT INTO naturalearth_countries (admin, admin_a3, type, coordinates)
SELECT 'Country ' || n, upper(substr(md5('country' || n), 1, 3)), 'Sovereign country',
    format('((%s,0),(%s,10),(%s,10),(%s,0))', n, n, n + 1, n + 1)::polygon
FROM generate_series(1, 50) AS n;

INSERT INTO system_metadata (key, value)
VALUES
    ('MediaLocation', '{"location": "/data"}'),
    ('system-flags', '{"mountChecks": {"upload": true, "library": true, "thumbs": true, "profile": true,
        "backups": true, "encoded-video": true}}'),
    ('system-config', '{"storageTemplate": {"enabled": true}, "newVersionCheck": {"enabled": false}}'),
    ('admin-onboarding', '{"isOnboarded": true}'),
    ('maintenance-mode', '{"isMaintenanceMode": false}'),
    ('version-check-state', '{"checkedAt": "2026-07-30T04:00:00.000Z", "releaseVersion": "v3.1.0"}');

INSERT INTO version_history (version, "createdAt")
VALUES
    ('2.7.5', '2026-04-20 18:12:44+00'),
    (ltrim(:'version', 'v'), '2026-07-29 19:03:10+00');

INSERT INTO kysely_migrations (name, "timestamp")
VALUES
    ('1744910873969-InitialMigration', '2025-05-21T18:00:00.000Z'),
    ('1752267649968-StandardizeNames', '2025-07-24T18:00:00.000Z'),
    ('1752759108283-ConvertToAbsolutePaths', '2025-07-24T18:00:01.000Z'),
    ('1761755618862-FixColumnNames', '2025-11-19T18:00:00.000Z'),
    ('1764698859174-SidecarInAssetFile', '2025-12-17T18:00:00.000Z'),
    ('1773242919341-EncodedVideoAssetFiles', '2026-04-20T18:12:43.000Z'),
    ('1781089983296-CreateIntegrityReportTable', '2026-07-29T19:03:09.000Z');
INSERT INTO kysely_migrations_lock VALUES ('migration_lock', 0);
INSERT INTO migration_overrides (name, value)
VALUES ('function_updated_at', '{"type": "function", "name": "updated_at"}');
INSERT INTO asset_audit ("assetId", "ownerId") SELECT md5('gone')::uuid, md5('user ada@example.org')::uuid;
