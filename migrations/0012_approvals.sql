-- What waits for a person, and what became of it (STANDARDS §11). The code that redeems it is kept as its hash only; the request is
-- the verified facts of an exchange, never the token that proved them.
CREATE TABLE approvals (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    client_id TEXT NOT NULL,        -- who asked, and alone may redeem
    code_sha256 TEXT NOT NULL,      -- hex; the code of the latest time it was asked for
    likeness TEXT NOT NULL,         -- SHA-256 of what was asked, hex: asked again, it is the same approval
    state TEXT NOT NULL,            -- pending, approved, denied, expired, cancelled or redeemed
    quorum BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    decision_id TEXT NOT NULL,      -- the decision that asked for it
    request TEXT NOT NULL,          -- JSON: from what the exchange goes on
    shown TEXT NOT NULL,            -- JSON: what a person is shown
    votes TEXT NOT NULL,            -- JSON array
    jti TEXT                        -- the token that it was redeemed for
);
CREATE UNIQUE INDEX approvals_code ON approvals (code_sha256);
CREATE INDEX approvals_pending ON approvals (expires_at) WHERE state = 'pending';
CREATE INDEX approvals_settled ON approvals (expires_at) WHERE state <> 'pending';
CREATE INDEX approvals_client ON approvals (client_id, state);
CREATE INDEX approvals_like ON approvals (client_id, likeness);
