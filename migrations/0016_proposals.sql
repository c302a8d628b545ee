-- Changes that wait for a second person, and what became of them.
CREATE TABLE proposals (
    id TEXT PRIMARY KEY,
    needs TEXT NOT NULL,            -- JSON array: why it takes two
    command TEXT NOT NULL,          -- what is to be done, in a word
    content TEXT NOT NULL,          -- JSON: the same, exactly
    effect TEXT NOT NULL,           -- JSON: what that would have done when it was proposed
    digest TEXT NOT NULL,           -- of all that, and of who proposed it
    proposer TEXT NOT NULL,         -- JSON: who, and what ends their word if it is revoked
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    state TEXT NOT NULL,            -- pending, carried_out, rejected, expired or superseded
    decision_id TEXT NOT NULL,      -- the decision that made it
    answered TEXT                   -- JSON: who answered, once somebody did
);
CREATE INDEX proposals_pending ON proposals (expires_at) WHERE state = 'pending';
CREATE INDEX proposals_settled ON proposals (expires_at) WHERE state <> 'pending';
