extension Migrations {
    static let alarms = """
        -- What each alarm was told about which finding. A row appears with the message about its start.
        CREATE TABLE alarm_states (
            alarm text NOT NULL,
            finding_id bigint NOT NULL REFERENCES findings ON DELETE CASCADE,
            -- The worst that was told.
            severity text NOT NULL CHECK (severity IN ('warning', 'critical')),
            -- When it was told last, as a start, a change or a reminder.
            told bigint NOT NULL,
            -- When its end was told; NULL while the alarm takes it for open.
            over bigint,
            -- The message that told it last.
            message_id bigint NOT NULL,
            PRIMARY KEY (alarm, finding_id)
        );
        CREATE INDEX alarm_states_by_finding ON alarm_states (finding_id);

        -- Messages, written in one transaction with what they tell, and kept until they are delivered.
        CREATE TABLE alarm_messages (
            id bigserial PRIMARY KEY,
            -- The same each time that it is sent.
            uuid uuid NOT NULL,
            alarm text NOT NULL,
            -- NULL when it only tells that something is over.
            severity text CHECK (severity IN ('warning', 'critical')),
            subject text NOT NULL,
            body text NOT NULL,
            findings jsonb NOT NULL,
            created bigint NOT NULL,
            attempts integer NOT NULL DEFAULT 0,
            next_try bigint NOT NULL,
            -- Of the last attempt, while there was none better.
            error text,
            delivered bigint,
            -- When it was given up, or its alarm was gone.
            dropped bigint
        );
        CREATE INDEX alarm_messages_waiting ON alarm_messages (alarm) WHERE delivered IS NULL AND dropped IS NULL;
        CREATE INDEX alarm_messages_by_time ON alarm_messages (alarm, created DESC);

        -- Which starts and ends of runs the hosts' own checks have heard of.
        CREATE TABLE run_pings (
            run_id uuid PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
            started bigint,
            ended bigint,
            attempts integer NOT NULL DEFAULT 0,
            next_try bigint NOT NULL DEFAULT 0
        );

        -- When each duty was done last, by whichever coordinator has it.
        CREATE TABLE duties (
            kind integer PRIMARY KEY,
            done bigint NOT NULL
        );
        """
}
