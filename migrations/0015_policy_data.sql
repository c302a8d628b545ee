-- Data documents of the policy, each named by its content, and all that were in force at once: a row without a path, whose content
-- names them. Decisions name both: they stay.
CREATE TABLE policy_data (
    version TEXT PRIMARY KEY,
    path TEXT NOT NULL,             -- below `data`; empty for all at once
    content BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX policy_data_path ON policy_data (path, created_at);
