extension Migrations {
    /// What health is judged by: marks of findings that outlast their cause, free space over time, and the watch's own
    /// clock; and the indexes by which a thousand hosts are looked at in a moment.
    static let health = """
        -- What a shrunken dump or library was measured against, and the moment the data is of in which a finding was
        -- seen last: from that on history begins anew once a person has closed it.
        ALTER TABLE findings ADD COLUMN reference_bytes bigint;
        ALTER TABLE findings ADD COLUMN reference_files bigint;
        ALTER TABLE findings ADD COLUMN data_of bigint;
        CREATE INDEX findings_settled ON findings (kind) WHERE closed_by IS NOT NULL;

        -- Free space where the repositories are, about once an hour.
        CREATE TABLE space_samples (
            time bigint PRIMARY KEY,
            free bigint NOT NULL,
            total bigint NOT NULL
        );

        -- When the watch went its round last, by the clock on the wall and by the one that counts from the machine's
        -- start; one row.
        CREATE TABLE watch_rounds (
            one boolean PRIMARY KEY DEFAULT true CHECK (one),
            machine text NOT NULL,
            boot text NOT NULL,
            wall bigint NOT NULL,
            since_boot bigint NOT NULL,
            -- Of the last round in which the clock was believed.
            good_wall bigint NOT NULL,
            good_offset bigint NOT NULL
        );

        CREATE INDEX runs_under_way ON runs (host_id) WHERE state = 'running';
        """
}
