extension Migrations {
    /// What happened in a run, the end that somebody asked for, agents' clocks, and the coordinators of the fleet.
    static let captures = """
        CREATE TABLE run_log (
            id bigserial PRIMARY KEY,
            run_id uuid NOT NULL REFERENCES runs ON DELETE CASCADE,
            time bigint NOT NULL,
            line text NOT NULL
        );
        CREATE INDEX run_log_by_run ON run_log (run_id, id);
        CREATE INDEX snapshots_by_run ON snapshots (run_id);

        -- When somebody asked for the end of a running run.
        ALTER TABLE runs ADD COLUMN cancel_requested bigint;

        -- By how much at least the agent's clock was ahead of the coordinator's, nanoseconds; negative when behind.
        ALTER TABLE hosts ADD COLUMN clock_skew bigint;
        ALTER TABLE hosts ADD COLUMN clock_seen bigint;

        -- Those that serve this catalogue's hosts, by their host keys; agents are told of them.
        CREATE TABLE coordinators (
            host_key text PRIMARY KEY,
            machine text NOT NULL,
            -- host:port, one a line.
            addresses text NOT NULL,
            since bigint NOT NULL,
            seen bigint NOT NULL
        );
        """
}
