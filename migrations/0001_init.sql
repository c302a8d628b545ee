-- One text for SQLite and PostgreSQL: only TEXT, BIGINT, BYTEA and BOOLEAN. Instants are BIGINT, Unix microseconds.
-- SQLite does not know BYTEA and gives such a column NUMERIC affinity, which never changes a BLOB: bytes are
-- always written as BLOB, never as text. Every table is written by the one writer only (DESIGN §7).

-- The head of the decision log, one row. Its update is the first statement of every commit: the write lock.
CREATE TABLE log_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL,          -- number of commits
    size BIGINT NOT NULL,           -- number of leaves, hence the next index
    frontier BYTEA NOT NULL,        -- roots of the perfect subtrees, 32 bytes each, largest first
    greatest_iat BIGINT NOT NULL    -- greatest `iat` of any token committed
);
INSERT INTO log_head (id, epoch, size, frontier, greatest_iat) VALUES (1, 0, 0, '', 0);

-- A decision is three things: the leaf for ever, the record until it is erased, the input for some days.
CREATE TABLE decisions (
    idx BIGINT PRIMARY KEY,
    id TEXT NOT NULL,
    tenant TEXT,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    leaf BYTEA NOT NULL
);
CREATE UNIQUE INDEX decisions_id ON decisions (id);

CREATE TABLE decision_records (
    idx BIGINT PRIMARY KEY,
    salt BYTEA NOT NULL,
    record BYTEA NOT NULL
);

CREATE TABLE decision_inputs (
    idx BIGINT PRIMARY KEY,
    input BYTEA NOT NULL,           -- LZ4, size first
    keep_until BIGINT NOT NULL
);

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    principal_iss TEXT NOT NULL,
    principal_sub TEXT NOT NULL,
    session_iss TEXT NOT NULL,
    session_sid TEXT,
    session_hash TEXT NOT NULL,
    session_since BIGINT NOT NULL,
    started_by TEXT NOT NULL,
    task_type_tenant TEXT NOT NULL,
    task_type TEXT NOT NULL,
    task_type_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    deadline BIGINT NOT NULL,
    facts TEXT NOT NULL             -- JSON object
);

CREATE TABLE tokens (
    jti TEXT PRIMARY KEY,
    task_id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    parent TEXT,
    ancestors TEXT NOT NULL,        -- JSON array of jti, the root first
    principal_iss TEXT NOT NULL,
    principal_sub TEXT NOT NULL,
    session_iss TEXT NOT NULL,
    session_sid TEXT,
    session_hash TEXT NOT NULL,
    session_since BIGINT NOT NULL,
    agent TEXT NOT NULL,
    chain_agents TEXT NOT NULL,     -- JSON array of client ids, the current one first
    chain TEXT NOT NULL,            -- JSON, the `act` claim
    task_type_tenant TEXT NOT NULL,
    task_type TEXT NOT NULL,
    task_type_version BIGINT NOT NULL,
    capability_digest BYTEA NOT NULL,
    audience TEXT,
    iat BIGINT NOT NULL,
    exp BIGINT NOT NULL,
    key_thumbprint TEXT,
    status_list TEXT,
    status_index BIGINT,
    approval_id TEXT,
    decision_id TEXT NOT NULL,
    kid TEXT NOT NULL               -- the key that signed it
);

-- What is dead: one row kills all that hangs on it (DESIGN §7).
CREATE TABLE revocations (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    not_before BIGINT NOT NULL,     -- what began at or before this is dead
    keep_until BIGINT NOT NULL,
    tenant TEXT,
    reason TEXT NOT NULL,
    decision_id TEXT NOT NULL,
    PRIMARY KEY (kind, key)
);

-- What may be used once and has been.
CREATE TABLE spent (
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    keep_until BIGINT NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX spent_keep_until ON spent (keep_until);

-- Declarative objects, every version ever published.
CREATE TABLE objects (
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    spec BYTEA NOT NULL,            -- canonical JSON
    digest BYTEA NOT NULL,          -- SHA-256 of spec
    published_at BIGINT NOT NULL,
    is_current BOOLEAN NOT NULL,
    PRIMARY KEY (tenant, kind, name, version)
);

-- Policy bundles ever active, by the hash of their content.
CREATE TABLE bundles (
    version TEXT PRIMARY KEY,
    content BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

-- Facts of the deployment: the issuer it was set up with, the generation of its configuration.
CREATE TABLE settings (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
