/// The catalogue's schema, in steps that are never changed once they are released: a change is a new step.
///
/// Times are nanoseconds since 1970-01-01T00:00:00Z as `bigint`, which is what snapshots and the programs count in,
/// to the digit and whatever the session's time zone; sizes are bytes as `bigint`. All tables are in the schema
/// `holdfast`, so that a database may be shared.
enum Migrations {
    /// Migration n is at n - 1.
    static let all: [String] = [
        """
        CREATE TABLE hosts (
            id serial PRIMARY KEY,
            name text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
            added bigint NOT NULL,
            removed bigint,
            -- When its agent was here last.
            last_contact bigint,
            -- The highest epoch that was ever given out; it only grows.
            epoch bigint NOT NULL DEFAULT 0
        );

        CREATE TABLE agent_keys (
            fingerprint text PRIMARY KEY,
            host_id integer NOT NULL REFERENCES hosts,
            public_key bytea NOT NULL,
            added bigint NOT NULL,
            revoked bigint
        );

        CREATE TABLE join_tokens (
            sha256 bytea PRIMARY KEY,
            host_id integer NOT NULL REFERENCES hosts,
            expires bigint NOT NULL,
            used bigint,
            -- The key that it was used for, so that the same agent may ask again when the answer was lost.
            fingerprint text
        );

        CREATE TABLE runs (
            id uuid PRIMARY KEY,
            host_id integer NOT NULL REFERENCES hosts,
            kind text NOT NULL,
            state text NOT NULL CHECK (state IN
                ('queued', 'running', 'done', 'incomplete', 'failed', 'interrupted', 'cancelled')),
            requested bigint NOT NULL,
            started bigint,
            ended bigint,
            phase text,
            epoch bigint,
            -- The lease of the process that works on it.
            holder uuid,
            files_seen bigint NOT NULL DEFAULT 0,
            bytes_seen bigint NOT NULL DEFAULT 0,
            files_read bigint NOT NULL DEFAULT 0,
            files_sent bigint NOT NULL DEFAULT 0,
            bytes_sent bigint NOT NULL DEFAULT 0,
            bytes_stored bigint NOT NULL DEFAULT 0,
            files_expected bigint,
            bytes_expected bigint,
            problems bigint NOT NULL DEFAULT 0,
            error text,
            snapshot text
        );
        CREATE INDEX runs_by_host ON runs (host_id, requested DESC);
        CREATE UNIQUE INDEX runs_queued ON runs (host_id, kind) WHERE state = 'queued';
        CREATE INDEX runs_running ON runs (holder) WHERE state = 'running';

        CREATE TABLE run_problems (
            id bigserial PRIMARY KEY,
            run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
            path bytea NOT NULL,
            message text NOT NULL
        );
        CREATE INDEX run_problems_by_run ON run_problems (run_id);

        CREATE TABLE snapshots (
            host_id integer NOT NULL REFERENCES hosts,
            id text NOT NULL,
            run_id uuid REFERENCES runs ON DELETE SET NULL,
            time bigint NOT NULL,
            tree text NOT NULL,
            epoch bigint NOT NULL,
            scope text NOT NULL,
            dump_name text,
            dump_bytes bigint,
            immich_version text,
            postgres_version text,
            files bigint NOT NULL,
            bytes bigint NOT NULL,
            stored_bytes bigint NOT NULL,
            incomplete boolean NOT NULL,
            state text NOT NULL CHECK (state IN ('present', 'aside')),
            PRIMARY KEY (host_id, id)
        );
        CREATE INDEX snapshots_by_time ON snapshots (host_id, time DESC);

        CREATE TABLE events (
            id bigserial PRIMARY KEY,
            time bigint NOT NULL,
            host_id integer REFERENCES hosts,
            severity text NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
            kind text NOT NULL,
            message text NOT NULL,
            data jsonb NOT NULL
        );
        CREATE INDEX events_by_time ON events (time DESC);

        -- Who holds locks; what pg_stat_activity has no place for. The connection named
        -- 'holdfast <id>' is what counts, a row without it means nothing.
        CREATE TABLE leases (
            id uuid PRIMARY KEY,
            host_id integer NOT NULL REFERENCES hosts,
            kind text NOT NULL,
            epoch bigint,
            machine text NOT NULL,
            pid integer NOT NULL,
            since bigint NOT NULL
        );
        """,
        """
        -- What each repository keeps in holdfast/pins and holdfast/proofs too. A pin or proof may be older or younger
        -- than its snapshot's row, so it refers to the host alone.
        CREATE TABLE pins (
            host_id integer NOT NULL REFERENCES hosts,
            snapshot text NOT NULL,
            why text NOT NULL,
            by_whom text NOT NULL,
            time bigint NOT NULL,
            PRIMARY KEY (host_id, snapshot)
        );

        CREATE TABLE proofs (
            host_id integer NOT NULL REFERENCES hosts,
            snapshot text NOT NULL,
            level text NOT NULL CHECK (level IN ('captured', 'whole', 'proved', 'drilled')),
            time bigint NOT NULL,
            -- Names and whole numbers.
            figures jsonb NOT NULL,
            PRIMARY KEY (host_id, snapshot, level)
        );
        """,
        // Why a run ended without a snapshot, in a word for programs.
        """
        ALTER TABLE runs ADD COLUMN failure text;
        """,
        """
        -- What a person granted with `restore --remote`: one machine may have one snapshot, or parts of it.
        CREATE TABLE restore_grants (
            sha256 bytea PRIMARY KEY,
            host_id integer NOT NULL REFERENCES hosts,
            snapshot text NOT NULL,
            -- Paths, each with a zero byte behind it; none: everything.
            includes bytea NOT NULL,
            expires bigint NOT NULL,
            -- The first key that used it; no other may.
            fingerprint text
        );
        """,
        """
        -- Captures of the database alone, and snapshots that wait in holdfast/forgotten for the end of their grace.
        ALTER TABLE snapshots ADD COLUMN kind text NOT NULL DEFAULT 'full' CHECK (kind IN ('full', 'database'));
        ALTER TABLE snapshots ADD COLUMN forgotten bigint;
        ALTER TABLE snapshots DROP CONSTRAINT snapshots_state_check;
        ALTER TABLE snapshots ADD CONSTRAINT snapshots_state_check CHECK (state IN ('present', 'forgotten', 'aside'));

        UPDATE runs SET kind = 'full' WHERE kind = 'backup';
        ALTER TABLE runs ADD CONSTRAINT runs_kind_check CHECK (kind IN ('full', 'database', 'forget', 'prune'));
        CREATE INDEX runs_by_kind ON runs (host_id, kind, requested DESC);

        -- What is wrong with a host, or without a host with the coordinator itself; one open row for each trouble.
        CREATE TABLE findings (
            id bigserial PRIMARY KEY,
            host_id integer REFERENCES hosts,
            -- A word for programs: 'library-shrank'.
            kind text NOT NULL,
            -- What tells two troubles of one kind apart, or nothing.
            subject text NOT NULL DEFAULT '',
            severity text NOT NULL CHECK (severity IN ('warning', 'critical')),
            message text NOT NULL,
            -- Nothing of the host is forgotten or pruned while it is open.
            freezes boolean NOT NULL DEFAULT false,
            opened bigint NOT NULL,
            seen bigint NOT NULL,
            closed bigint,
            -- Who closed it, and why, where a person did.
            closed_by text,
            closed_why text
        );
        CREATE UNIQUE INDEX findings_open ON findings (coalesce(host_id, 0), kind, subject) WHERE closed IS NULL;
        CREATE INDEX findings_by_host ON findings (host_id, opened DESC);
        """,
        captures,
        schedule,
        health,
        alarms,
    ]
}
