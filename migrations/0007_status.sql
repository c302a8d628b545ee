-- Status lists. Any replica serves any of them: their bits follow from the revocations and are stored nowhere.
CREATE TABLE status_lists (
    id TEXT PRIMARY KEY,
    size BIGINT NOT NULL,           -- number of entries
    opened_at BIGINT NOT NULL,
    keep_until BIGINT NOT NULL      -- no token of it lives longer
);

-- Which commit wrote a revocation: whoever read up to one commit asks for what is greater. Commits are numbered under
-- the lock, so that nothing becomes visible below a number that was seen.
ALTER TABLE revocations ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
CREATE INDEX revocations_epoch ON revocations (epoch, kind, key);
