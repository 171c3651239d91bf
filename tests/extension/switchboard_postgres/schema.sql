-- One row per open connection, or with closed_at per tombstone. PostgreSQL 18 or later.
CREATE TABLE IF NOT EXISTS switchboard_connections (
    id            text PRIMARY KEY,
    connected_at  timestamptz,
    closed_at     timestamptz,
    created_at    timestamptz,
    expires_at    timestamptz NOT NULL,
    client_id     text,
    account       text,
    region        text,
    source_ip     text,
    details       jsonb
);
ALTER TABLE switchboard_connections ADD COLUMN IF NOT EXISTS admitted_until timestamptz;
CREATE INDEX IF NOT EXISTS switchboard_by_client ON switchboard_connections (client_id, id);
CREATE INDEX IF NOT EXISTS switchboard_by_account ON switchboard_connections (account, id);
CREATE INDEX IF NOT EXISTS switchboard_by_hash ON switchboard_connections (hashtext(id), id);
CREATE INDEX IF NOT EXISTS switchboard_by_expiry ON switchboard_connections (expires_at);
