-- What each running server tells of itself, for `policy status`: seconds old, written by that server alone, and no part of any
-- decision.
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,            -- of the process, drawn at its start
    name TEXT NOT NULL,             -- its host and port
    program TEXT NOT NULL,          -- version of the program
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,        -- when it last wrote this
    told TEXT NOT NULL              -- JSON
);
