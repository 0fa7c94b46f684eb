-- The tables of an Immich 3.1 database, as far as a backup meets them: names, columns and types are Immich's,
-- so that a dump of this database looks like one of Immich's and is read by the same rules.
--
-- Left out: smart_search and face_search. They need the vector extensions VectorChord or pgvector, which
-- Debian 12 does not have. Everything else that Immich's extensions give (unaccent, earthdistance, trigrams,
-- uuids) is here and used, so that a restore has to cope with it.

CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE EXTENSION IF NOT EXISTS unaccent;
CREATE EXTENSION IF NOT EXISTS cube;
CREATE EXTENSION IF NOT EXISTS earthdistance;
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TYPE assets_status_enum AS ENUM ('active', 'trashed', 'deleted');
CREATE TYPE asset_visibility_enum AS ENUM ('archive', 'timeline', 'hidden', 'locked');
CREATE TYPE asset_checksum_algorithm_enum AS ENUM ('sha1', 'sha1-path');
CREATE TYPE album_user_role_enum AS ENUM ('owner', 'editor', 'viewer');
CREATE TYPE sourcetype AS ENUM ('machine-learning', 'exif', 'manual');
CREATE TYPE integrity_report_type_enum AS ENUM ('untracked_file', 'missing_file', 'checksum_mismatch');

-- A uuid of version 7: the time in milliseconds in front, so that the newest change sorts last.
CREATE FUNCTION immich_uuid_v7(p_timestamp timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    SELECT encode(
        set_byte(
            overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM p_timestamp) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6
            ),
            6,
            (get_byte(uuid_send(gen_random_uuid()), 6) & 15) | 112
        ),
        'hex'
    )::uuid
$$;

CREATE FUNCTION f_unaccent(text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN public.unaccent('public.unaccent'::regdictionary, $1);

CREATE FUNCTION ll_to_earth_public(latitude double precision, longitude double precision) RETURNS public.earth
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT public.cube(
        public.cube(
            public.cube(public.earth() * cos(radians(latitude)) * cos(radians(longitude))),
            public.earth() * cos(radians(latitude)) * sin(radians(longitude))
        ),
        public.earth() * sin(radians(latitude))
    )::public.earth
$$;

CREATE FUNCTION updated_at() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    new."updatedAt" = clock_timestamp();
    new."updateId" = immich_uuid_v7(clock_timestamp());
    RETURN new;
END
$$;

CREATE FUNCTION asset_delete_audit() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO asset_audit ("assetId", "ownerId") SELECT id, "ownerId" FROM old;
    RETURN NULL;
END
$$;

CREATE TABLE "user" (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    email varchar NOT NULL UNIQUE,
    password varchar,
    "pinCode" varchar,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "profileImagePath" varchar NOT NULL DEFAULT '',
    "isAdmin" boolean NOT NULL DEFAULT false,
    "shouldChangePassword" boolean NOT NULL DEFAULT true,
    "avatarColor" varchar,
    "deletedAt" timestamptz,
    "oauthId" varchar NOT NULL DEFAULT '',
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "storageLabel" varchar UNIQUE,
    name varchar NOT NULL DEFAULT '',
    "quotaSizeInBytes" bigint,
    "quotaUsageInBytes" bigint NOT NULL DEFAULT 0,
    status varchar NOT NULL DEFAULT 'active',
    "profileChangedAt" timestamptz NOT NULL DEFAULT now(),
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7()
);

CREATE TABLE user_metadata (
    "userId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    key varchar NOT NULL,
    value jsonb NOT NULL,
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("userId", key)
);

CREATE TABLE user_audit (
    id uuid PRIMARY KEY DEFAULT immich_uuid_v7(),
    "userId" uuid NOT NULL,
    "deletedAt" timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE session (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    token bytea NOT NULL,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "expiresAt" timestamptz,
    "userId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    "deviceType" varchar NOT NULL DEFAULT '',
    "deviceOS" varchar NOT NULL DEFAULT '',
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7()
);

CREATE TABLE api_key (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    name varchar NOT NULL,
    key bytea NOT NULL,
    "userId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    permissions varchar[] NOT NULL,
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7()
);

CREATE TABLE library (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    name varchar NOT NULL,
    "ownerId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    "importPaths" text[] NOT NULL,
    "exclusionPatterns" text[] NOT NULL,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "deletedAt" timestamptz,
    "refreshedAt" timestamptz,
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7()
);

CREATE TABLE stack (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "primaryAssetId" uuid NOT NULL UNIQUE,
    "ownerId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7()
);

CREATE TABLE asset (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "ownerId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    type varchar NOT NULL,
    "originalPath" varchar NOT NULL,
    "fileCreatedAt" timestamptz NOT NULL,
    "fileModifiedAt" timestamptz NOT NULL,
    "isFavorite" boolean NOT NULL DEFAULT false,
    duration integer,
    checksum bytea NOT NULL,
    "checksumAlgorithm" asset_checksum_algorithm_enum NOT NULL,
    "livePhotoVideoId" uuid REFERENCES asset ON UPDATE CASCADE ON DELETE SET NULL,
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "originalFileName" varchar NOT NULL,
    thumbhash bytea,
    "isOffline" boolean NOT NULL DEFAULT false,
    "libraryId" uuid REFERENCES library ON UPDATE CASCADE ON DELETE CASCADE,
    "isExternal" boolean NOT NULL DEFAULT false,
    "deletedAt" timestamptz,
    "localDateTime" timestamptz NOT NULL,
    "stackId" uuid REFERENCES stack ON UPDATE CASCADE ON DELETE SET NULL,
    "duplicateId" uuid,
    status assets_status_enum NOT NULL DEFAULT 'active',
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    visibility asset_visibility_enum NOT NULL DEFAULT 'timeline',
    width integer,
    height integer,
    "isEdited" boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX "UQ_assets_owner_checksum" ON asset ("ownerId", checksum) WHERE "libraryId" IS NULL;
CREATE UNIQUE INDEX "UQ_assets_owner_library_checksum" ON asset ("ownerId", "libraryId", checksum)
    WHERE "libraryId" IS NOT NULL;
CREATE INDEX asset_local_date_time_idx ON asset ((("localDateTime" AT TIME ZONE 'UTC')::date));
CREATE INDEX "asset_originalFilename_trigram_idx" ON asset USING gin (f_unaccent("originalFileName") gin_trgm_ops);
CREATE TRIGGER "asset_updatedAt" BEFORE UPDATE ON asset FOR EACH ROW EXECUTE FUNCTION updated_at();
CREATE TRIGGER asset_delete_audit AFTER DELETE ON asset REFERENCING OLD TABLE AS old
    FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION asset_delete_audit();
ALTER TABLE stack ADD FOREIGN KEY ("primaryAssetId") REFERENCES asset;

CREATE TABLE asset_audit (
    id uuid PRIMARY KEY DEFAULT immich_uuid_v7(),
    "assetId" uuid NOT NULL,
    "ownerId" uuid NOT NULL,
    "deletedAt" timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE asset_exif (
    "assetId" uuid PRIMARY KEY REFERENCES asset ON DELETE CASCADE,
    make varchar,
    model varchar,
    "exifImageWidth" integer,
    "exifImageHeight" integer,
    "fileSizeInByte" bigint,
    orientation varchar,
    "dateTimeOriginal" timestamptz,
    "modifyDate" timestamptz,
    "lensModel" varchar,
    "fNumber" double precision,
    "focalLength" double precision,
    iso integer,
    latitude double precision,
    longitude double precision,
    city varchar,
    state varchar,
    country varchar,
    description text NOT NULL DEFAULT '',
    fps double precision,
    "exposureTime" varchar,
    "livePhotoCID" varchar,
    "timeZone" varchar,
    "projectionType" varchar,
    "profileDescription" varchar,
    colorspace varchar,
    "bitsPerSample" integer,
    "autoStackId" varchar,
    rating integer,
    tags varchar[],
    "updatedAt" timestamptz NOT NULL DEFAULT clock_timestamp(),
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    "lockedProperties" varchar[]
);

CREATE TABLE asset_file (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "assetId" uuid NOT NULL REFERENCES asset ON UPDATE CASCADE ON DELETE CASCADE,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    type varchar NOT NULL,
    path varchar NOT NULL,
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    "isEdited" boolean NOT NULL DEFAULT false,
    "isProgressive" boolean NOT NULL DEFAULT false,
    UNIQUE ("assetId", type, "isEdited")
);

CREATE TABLE asset_edit (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "assetId" uuid NOT NULL REFERENCES asset ON UPDATE CASCADE ON DELETE CASCADE,
    action varchar NOT NULL,
    parameters jsonb NOT NULL,
    sequence integer NOT NULL
);

CREATE TABLE asset_job_status (
    "assetId" uuid PRIMARY KEY REFERENCES asset ON UPDATE CASCADE ON DELETE CASCADE,
    "facesRecognizedAt" timestamptz,
    "metadataExtractedAt" timestamptz,
    "duplicatesDetectedAt" timestamptz,
    "ocrAt" timestamptz
);

CREATE TABLE person (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "ownerId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    name varchar NOT NULL DEFAULT '',
    "thumbnailPath" varchar NOT NULL DEFAULT '',
    "isHidden" boolean NOT NULL DEFAULT false,
    "birthDate" date,
    "faceAssetId" uuid,
    "isFavorite" boolean NOT NULL DEFAULT false,
    color varchar,
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7()
);

CREATE TABLE asset_face (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "assetId" uuid NOT NULL REFERENCES asset ON UPDATE CASCADE ON DELETE CASCADE,
    "personId" uuid REFERENCES person ON UPDATE CASCADE ON DELETE SET NULL,
    "imageWidth" integer NOT NULL DEFAULT 0,
    "imageHeight" integer NOT NULL DEFAULT 0,
    "boundingBoxX1" integer NOT NULL DEFAULT 0,
    "boundingBoxY1" integer NOT NULL DEFAULT 0,
    "boundingBoxX2" integer NOT NULL DEFAULT 0,
    "boundingBoxY2" integer NOT NULL DEFAULT 0,
    "sourceType" sourcetype NOT NULL DEFAULT 'machine-learning',
    "deletedAt" timestamptz,
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    "isVisible" boolean NOT NULL DEFAULT true
);
ALTER TABLE person ADD FOREIGN KEY ("faceAssetId") REFERENCES asset_face ON UPDATE CASCADE ON DELETE SET NULL;

CREATE TABLE album (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "albumName" varchar NOT NULL DEFAULT 'Untitled Album',
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "albumThumbnailAssetId" uuid REFERENCES asset ON UPDATE CASCADE ON DELETE SET NULL,
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    description text NOT NULL DEFAULT '',
    "deletedAt" timestamptz,
    "isActivityEnabled" boolean NOT NULL DEFAULT true,
    "order" varchar NOT NULL DEFAULT 'desc',
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7()
);

CREATE TABLE album_asset (
    "albumId" uuid NOT NULL REFERENCES album ON UPDATE CASCADE ON DELETE CASCADE,
    "assetId" uuid NOT NULL REFERENCES asset ON UPDATE CASCADE ON DELETE CASCADE,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    PRIMARY KEY ("albumId", "assetId")
);

CREATE TABLE album_user (
    "albumId" uuid NOT NULL REFERENCES album ON UPDATE CASCADE ON DELETE CASCADE,
    "userId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    role album_user_role_enum NOT NULL DEFAULT 'editor',
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    PRIMARY KEY ("albumId", "userId")
);

CREATE TABLE tag (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "userId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    value varchar NOT NULL,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    color varchar,
    "parentId" uuid REFERENCES tag ON DELETE CASCADE,
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    UNIQUE ("userId", value)
);

CREATE TABLE tag_asset (
    "assetId" uuid NOT NULL REFERENCES asset ON UPDATE CASCADE ON DELETE CASCADE,
    "tagId" uuid NOT NULL REFERENCES tag ON UPDATE CASCADE ON DELETE CASCADE,
    PRIMARY KEY ("assetId", "tagId")
);

CREATE TABLE tag_closure (
    id_ancestor uuid NOT NULL REFERENCES tag ON DELETE CASCADE,
    id_descendant uuid NOT NULL REFERENCES tag ON DELETE CASCADE,
    PRIMARY KEY (id_ancestor, id_descendant)
);

CREATE TABLE partner (
    "sharedById" uuid NOT NULL REFERENCES "user" ON DELETE CASCADE,
    "sharedWithId" uuid NOT NULL REFERENCES "user" ON DELETE CASCADE,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "inTimeline" boolean NOT NULL DEFAULT false,
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    PRIMARY KEY ("sharedById", "sharedWithId")
);

CREATE TABLE shared_link (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    description varchar,
    "userId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    key bytea NOT NULL UNIQUE,
    type varchar NOT NULL,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "expiresAt" timestamptz,
    "allowUpload" boolean NOT NULL DEFAULT false,
    "albumId" uuid REFERENCES album ON UPDATE CASCADE ON DELETE CASCADE,
    "allowDownload" boolean NOT NULL DEFAULT true,
    "showExif" boolean NOT NULL DEFAULT true,
    password varchar,
    slug varchar UNIQUE
);

CREATE TABLE memory (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "deletedAt" timestamptz,
    "ownerId" uuid NOT NULL REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    type varchar NOT NULL,
    data jsonb NOT NULL,
    "isSaved" boolean NOT NULL DEFAULT false,
    "memoryAt" timestamptz NOT NULL,
    "seenAt" timestamptz,
    "showAt" timestamptz,
    "hideAt" timestamptz,
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7()
);

CREATE TABLE memory_asset (
    "memoriesId" uuid NOT NULL REFERENCES memory ON UPDATE CASCADE ON DELETE CASCADE,
    "assetId" uuid NOT NULL REFERENCES asset ON UPDATE CASCADE ON DELETE CASCADE,
    PRIMARY KEY ("memoriesId", "assetId")
);

CREATE TABLE move_history (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "entityId" uuid NOT NULL,
    "pathType" varchar NOT NULL,
    "oldPath" varchar NOT NULL,
    "newPath" varchar NOT NULL UNIQUE,
    UNIQUE ("entityId", "pathType")
);

CREATE TABLE integrity_report (
    id uuid PRIMARY KEY DEFAULT immich_uuid_v7(),
    type integrity_report_type_enum NOT NULL,
    path text NOT NULL,
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "assetId" uuid REFERENCES asset ON UPDATE CASCADE ON DELETE CASCADE,
    "fileAssetId" uuid REFERENCES asset_file ON UPDATE CASCADE ON DELETE CASCADE,
    UNIQUE (type, path)
);

CREATE TABLE notification (
    id uuid PRIMARY KEY DEFAULT immich_uuid_v7(),
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    "updatedAt" timestamptz NOT NULL DEFAULT now(),
    "deletedAt" timestamptz,
    "updateId" uuid NOT NULL DEFAULT immich_uuid_v7(),
    "userId" uuid REFERENCES "user" ON UPDATE CASCADE ON DELETE CASCADE,
    level varchar NOT NULL DEFAULT 'info',
    type varchar NOT NULL DEFAULT 'Custom',
    data jsonb,
    title varchar NOT NULL,
    description text,
    "readAt" timestamptz
);

CREATE TABLE geodata_places (
    id integer PRIMARY KEY,
    name varchar(200) NOT NULL,
    longitude double precision NOT NULL,
    latitude double precision NOT NULL,
    "countryCode" char(2) NOT NULL,
    "admin1Code" varchar(20),
    "admin2Code" varchar(80),
    "modificationDate" date NOT NULL,
    "admin1Name" varchar,
    "admin2Name" varchar,
    "alternateNames" varchar
);
CREATE INDEX "IDX_geodata_gist_earthcoord" ON geodata_places USING gist (ll_to_earth_public(latitude, longitude));
CREATE INDEX idx_geodata_places_name ON geodata_places USING gin (f_unaccent(name) gin_trgm_ops);

CREATE TABLE naturalearth_countries (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    admin varchar(50) NOT NULL,
    admin_a3 varchar(3) NOT NULL,
    type varchar(50) NOT NULL,
    coordinates polygon NOT NULL
);

CREATE TABLE system_metadata (
    key varchar PRIMARY KEY,
    value jsonb NOT NULL
);

CREATE TABLE version_history (
    id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
    "createdAt" timestamptz NOT NULL DEFAULT now(),
    version varchar NOT NULL
);

CREATE TABLE kysely_migrations (
    name varchar(255) PRIMARY KEY,
    "timestamp" varchar(255) NOT NULL
);

CREATE TABLE kysely_migrations_lock (
    id varchar(255) PRIMARY KEY,
    is_locked integer NOT NULL DEFAULT 0
);

CREATE TABLE migration_overrides (
    name varchar PRIMARY KEY,
    value jsonb NOT NULL
);
