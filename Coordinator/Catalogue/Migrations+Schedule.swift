extension Migrations {
    /// The schedule: what is due on each host, and which agents wait for work where.
    static let schedule = """
        -- Queued by the schedule, and no person waits for it.
        ALTER TABLE runs ADD COLUMN scheduled boolean NOT NULL DEFAULT false;
        CREATE INDEX runs_good ON runs (host_id, kind, epoch) WHERE state IN ('done', 'incomplete');

        -- Each host's work of one kind. An occurrence is one time at which it is due; at most one is under way.
        CREATE TABLE jobs (
            host_id integer NOT NULL REFERENCES hosts,
            kind text NOT NULL CHECK (kind IN ('full', 'database', 'forget', 'prune')),
            -- Expression and zone that 'next' was reckoned with; empty for what follows captures.
            schedule text NOT NULL,
            -- The newest occurrence that is over or under way, by when it was due.
            handled bigint NOT NULL,
            -- When the one after it is due, before the host's spread; none where nothing more comes.
            next bigint,
            -- When the occurrence under way was due.
            due bigint,
            attempts integer NOT NULL DEFAULT 0,
            retry_at bigint,
            -- Later than this it is not tried again.
            window_end bigint,
            -- The run that works on it.
            run_id uuid REFERENCES runs ON DELETE SET NULL,
            -- The one that was over last.
            last_run uuid REFERENCES runs ON DELETE SET NULL,
            -- Occurrences in a row that came to nothing.
            missed integer NOT NULL DEFAULT 0,
            -- What the one under way waits for, and how the last one came to nothing; for people.
            waits text,
            note text,
            PRIMARY KEY (host_id, kind)
        );
        CREATE INDEX jobs_by_run ON jobs (run_id) WHERE run_id IS NOT NULL;

        -- Agents that are connected and take work. The connection of a serve that is named 'holdfast serve ID' is what
        -- counts, a row without it means nothing.
        CREATE TABLE waiting_agents (
            serve uuid NOT NULL,
            host_id integer NOT NULL REFERENCES hosts,
            since bigint NOT NULL,
            PRIMARY KEY (serve, host_id)
        );
        """
}
