//! The batch statements, in both dialects side by side: their number does not grow with the batch.
//!
//! SQLite gets rows as one JSON text, each an array in the order of its columns (`jsonb_each` does not spell a row out
//! again for each column, `json_each` does), with the long bytes in one BLOB that the rows point into;
//! PostgreSQL gets one array per column. `transaction.rs` binds them, `writer.rs` says in which order they run.

use super::rows::{approval_columns, task_columns, token_columns};

/// The columns of a `KnownRow` beyond the token's own.
macro_rules! growth {
    () => {
        ", COALESCE((SELECT t.task_serial FROM tokens t WHERE t.task_id = tokens.task_id \
              ORDER BY t.task_serial DESC LIMIT 1), 0) AS tree_tokens, \
           COALESCE((SELECT t.paced_until FROM tokens t WHERE t.task_id = tokens.task_id \
              ORDER BY t.task_serial DESC LIMIT 1), 0) AS tree_paced_until, \
           COALESCE((SELECT t.sibling FROM tokens t WHERE t.parent = tokens.jti \
              ORDER BY t.sibling DESC LIMIT 1), 0) AS children "
    };
}

/// One statement in both dialects.
pub(super) struct Sql {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

/// Takes the write lock before anything is read. On PostgreSQL each statement must see what was committed until the
/// lock was granted, whatever the server's default isolation is.
pub(super) const BEGIN: Sql =
    Sql { sqlite: "BEGIN IMMEDIATE", postgres: "BEGIN ISOLATION LEVEL READ COMMITTED" };

/// The first statement of every commit: the row lock on PostgreSQL.
pub(super) const LOCK: &str =
    "UPDATE log_head SET epoch = epoch + 1 WHERE id = 1 RETURNING size, frontier, greatest_iat, generation";

/// The tokens of these ids, with how far their trees have grown: the newest row of a task, and of a parent, tells.
pub(super) const TOKENS: Sql = Sql {
    sqlite: concat!(
        "SELECT ",
        token_columns!(),
        growth!(),
        "FROM tokens WHERE jti IN (SELECT value FROM json_each($1))"
    ),
    postgres: concat!("SELECT ", token_columns!(), growth!(), "FROM tokens WHERE jti = ANY($1::text[])"),
};

/// The approvals of these ids.
pub(super) const APPROVALS: Sql = Sql {
    sqlite: concat!(
        "SELECT ",
        approval_columns!(),
        " FROM approvals WHERE id IN (SELECT value FROM json_each($1))"
    ),
    postgres: concat!("SELECT ", approval_columns!(), " FROM approvals WHERE id = ANY($1::text[])"),
};

/// Approvals as they stand now; rare, so both databases get JSON.
pub(super) const PUT_APPROVALS: Sql = Sql {
    sqlite: concat!(
        "INSERT INTO approvals (",
        approval_columns!(),
        ") SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
             value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14, value->>15 \
           FROM json_each($1) WHERE true \
         ON CONFLICT (id) DO UPDATE SET code_sha256 = excluded.code_sha256, state = excluded.state, \
           votes = excluded.votes, jti = excluded.jti, request = excluded.request, \
           expires_at = excluded.expires_at, envelope = excluded.envelope, open_in = excluded.open_in"
    ),
    postgres: concat!(
        "INSERT INTO approvals (",
        approval_columns!(),
        ") SELECT j->>0, j->>1, j->>2, j->>3, j->>4, j->>5, (j->>6)::bigint, (j->>7)::bigint, \
             (j->>8)::bigint, j->>9, j->>10, j->>11, j->>12, j->>13, j->>14, j->>15 \
           FROM json_array_elements($1::json) j \
         ON CONFLICT (id) DO UPDATE SET code_sha256 = excluded.code_sha256, state = excluded.state, \
           votes = excluded.votes, jti = excluded.jti, request = excluded.request, \
           expires_at = excluded.expires_at, envelope = excluded.envelope, open_in = excluded.open_in"
    ),
};

/// Which of these keys are revoked: position in the list, from 0, and `not_before`.
pub(super) const REVOKED: Sql = Sql {
    sqlite: "SELECT k.key, r.not_before FROM jsonb_each($1) k CROSS JOIN revocations r \
             ON r.kind = k.value->>0 AND r.key = k.value->>1",
    postgres: "SELECT k.n - 1, r.not_before FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY k(kind, key, n) \
               JOIN revocations r ON r.kind = k.kind AND r.key = k.key",
};

/// The rows of these keys, with the time of their decisions.
pub(super) const MARKS: Sql = Sql {
    sqlite: "SELECT r.kind, r.key, r.not_before, r.keep_until, r.tenant, r.reason, r.decision_id, d.at \
             FROM jsonb_each($1) k CROSS JOIN revocations r ON r.kind = k.value->>0 AND r.key = k.value->>1 \
             LEFT JOIN decisions d ON d.id = r.decision_id",
    postgres: "SELECT r.kind, r.key, r.not_before, r.keep_until, r.tenant, r.reason, r.decision_id, d.at \
               FROM UNNEST($1::text[], $2::text[]) k(kind, key) JOIN revocations r \
               ON r.kind = k.kind AND r.key = k.key LEFT JOIN decisions d ON d.id = r.decision_id",
};

/// Which of these keys are spent: position in the list, from 0.
pub(super) const SPENT: Sql = Sql {
    sqlite: "SELECT k.key FROM jsonb_each($1) k CROSS JOIN spent s \
             ON s.kind = k.value->>0 AND s.key = k.value->>1",
    postgres: "SELECT k.n - 1 FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY k(kind, key, n) \
               JOIN spent s ON s.kind = k.kind AND s.key = k.key",
};

/// How many [`PURGE`] forgets.
pub(super) const MOST_PURGED: u64 = 4096;
/// Forgets a bounded number of the spent ids that expired first: no commit is held up by how many there are.
pub(super) const PURGE: &str = "DELETE FROM spent WHERE (kind, key) IN \
     (SELECT kind, key FROM spent WHERE keep_until < $1 ORDER BY keep_until LIMIT 4096)";

/// Log entries, spent ids, tasks, tokens and the new head: one round trip. A task, token or spent id that exists
/// breaks its primary key and with it the batch, whatever was read before.
pub(super) const WRITE: Sql = Sql {
    sqlite: concat!(
        "INSERT INTO decisions (idx, id, tenant, kind, at, outcome, leaf) \
           SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, \
             substr($2, value->>6, value->>7) FROM jsonb_each($1); \
         INSERT INTO decision_records (idx, salt, record) \
           SELECT value->>0, unhex(value->>8), substr($2, value->>9, value->>10) FROM jsonb_each($1); \
         INSERT INTO decision_inputs (idx, input, keep_until) \
           SELECT value->>0, substr($2, value->>11, value->>12), value->>13 \
             FROM jsonb_each($1) WHERE value->>13 IS NOT NULL; \
         INSERT INTO spent (kind, key, keep_until) \
           SELECT value->>0, value->>1, value->>2 FROM jsonb_each($3); \
         INSERT INTO tasks (",
        task_columns!(),
        ") SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
             value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14 FROM jsonb_each($4); \
         INSERT INTO tokens (",
        token_columns!(),
        ") SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, value->>7, \
             value->>8, value->>9, value->>10, value->>11, value->>12, value->>13, value->>14, \
             value->>15, value->>16, unhex(value->>17), value->>18, value->>19, value->>20, \
             value->>21, value->>22, value->>23, value->>24, value->>25, value->>26, value->>27, value->>28, \
             value->>29, value->>30 FROM jsonb_each($5); \
         UPDATE log_head SET size = $6, frontier = $7, greatest_iat = $8, generation = $9 WHERE id = 1",
    ),
    postgres: concat!(
        "WITH d AS (INSERT INTO decisions (idx, id, tenant, kind, at, outcome, leaf) \
           SELECT * FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], \
             $7::bytea[])), \
         r AS (INSERT INTO decision_records (idx, salt, record) \
           SELECT * FROM UNNEST($1::bigint[], $8::bytea[], $9::bytea[])), \
         i AS (INSERT INTO decision_inputs (idx, input, keep_until) \
           SELECT * FROM UNNEST($10::bigint[], $11::bytea[], $12::bigint[])), \
         s AS (INSERT INTO spent (kind, key, keep_until) \
           SELECT * FROM UNNEST($13::text[], $14::text[], $15::bigint[])), \
         k AS (INSERT INTO tasks (",
        task_columns!(),
        ") SELECT * FROM UNNEST($16::text[], $17::text[], $18::text[], $19::text[], $20::text[], $21::text[], \
             $22::text[], $23::bigint[], $24::text[], $25::text[], $26::text[], $27::bigint[], $28::bigint[], \
             $29::bigint[], $30::text[])), \
         t AS (INSERT INTO tokens (",
        token_columns!(),
        ") SELECT * FROM UNNEST($31::text[], $32::text[], $33::text[], $34::text[], $35::text[], $36::text[], \
             $37::text[], $38::text[], $39::text[], $40::text[], $41::bigint[], $42::text[], $43::text[], \
             $44::text[], $45::text[], $46::text[], $47::bigint[], $48::bytea[], $49::text[], $50::bigint[], \
             $51::bigint[], $52::text[], $53::text[], $54::bigint[], $55::text[], $56::text[], \
             $57::text[], $58::bigint[], $59::bigint[], $60::bigint[], $61::text[])) \
         UPDATE log_head SET size = $62, frontier = $63, greatest_iat = $64, generation = $65 WHERE id = 1",
    ),
};

/// A status list that is opened, or that is full: from then on it is known until when its tokens live.
pub(super) const PUT_LIST: &str = "INSERT INTO status_lists (id, size, opened_at, keep_until) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET keep_until = excluded.keep_until";
/// Forgets the lists of which no token can live.
pub(super) const PURGE_LISTS: &str = "DELETE FROM status_lists WHERE keep_until < $1";

/// Revocations; one that exists keeps the later times and takes over the newer reason. Each is marked with its commit.
pub(super) const REVOKE: Sql = Sql {
    sqlite: "INSERT INTO revocations (kind, key, not_before, keep_until, tenant, reason, decision_id, epoch) \
             SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, \
               (SELECT epoch FROM log_head WHERE id = 1) \
               FROM json_each($1) WHERE true \
             ON CONFLICT (kind, key) DO UPDATE SET not_before = max(not_before, excluded.not_before), \
               keep_until = max(keep_until, excluded.keep_until), tenant = excluded.tenant, \
               reason = excluded.reason, decision_id = excluded.decision_id, epoch = excluded.epoch",
    postgres: "INSERT INTO revocations AS r \
                 (kind, key, not_before, keep_until, tenant, reason, decision_id, epoch) \
               SELECT j->>0, j->>1, (j->>2)::bigint, (j->>3)::bigint, j->>4, j->>5, j->>6, \
                 (SELECT epoch FROM log_head WHERE id = 1) \
                 FROM json_array_elements($1::json) j \
               ON CONFLICT (kind, key) DO UPDATE SET not_before = GREATEST(r.not_before, excluded.not_before), \
                 keep_until = GREATEST(r.keep_until, excluded.keep_until), tenant = excluded.tenant, \
                 reason = excluded.reason, decision_id = excluded.decision_id, epoch = excluded.epoch",
};

/// Takes back what alone can be taken back: lockdowns.
pub(super) const LIFT: Sql = Sql {
    sqlite: "DELETE FROM revocations WHERE (kind, key) IN \
             (SELECT value->>0, value->>1 FROM json_each($1))",
    postgres: "DELETE FROM revocations WHERE (kind, key) IN \
               (SELECT j->>0, j->>1 FROM json_array_elements($1::json) j)",
};

/// Objects, bundles and settings; rare, so both databases get JSON.
pub(super) const CONFIGURE: Sql = Sql {
    sqlite: "UPDATE objects SET is_current = FALSE WHERE is_current AND (tenant, kind, name) IN \
               (SELECT value->>0, value->>1, value->>2 FROM json_each($1)); \
             INSERT INTO objects (tenant, kind, name, version, spec, digest, published_at, is_current) \
               SELECT value->>'tenant', value->>'kind', value->>'name', value->>'version', \
                 unhex(value->>'spec'), unhex(value->>'digest'), value->>'published_at', value->>'is_current' \
                 FROM json_each($2); \
             INSERT INTO bundles (version, content, created_at, in_force_at) \
               SELECT value->>'version', unhex(value->>'content'), value->>'created_at', value->>'in_force_at' \
                 FROM json_each($3) WHERE true ON CONFLICT (version) DO UPDATE \
                 SET in_force_at = COALESCE(bundles.in_force_at, excluded.in_force_at); \
             INSERT INTO settings (key, value) SELECT key, value FROM json_each($4) WHERE true \
               ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    postgres: "WITH u AS (UPDATE objects SET is_current = FALSE WHERE is_current AND (tenant, kind, name) IN \
                 (SELECT j->>0, j->>1, j->>2 FROM json_array_elements($1::json) j)), \
               o AS (INSERT INTO objects (tenant, kind, name, version, spec, digest, published_at, is_current) \
                 SELECT j->>'tenant', j->>'kind', j->>'name', (j->>'version')::bigint, \
                   decode(j->>'spec', 'hex'), decode(j->>'digest', 'hex'), (j->>'published_at')::bigint, \
                   (j->>'is_current')::boolean FROM json_array_elements($2::json) j), \
               b AS (INSERT INTO bundles (version, content, created_at, in_force_at) \
                 SELECT j->>'version', decode(j->>'content', 'hex'), (j->>'created_at')::bigint, \
                   (j->>'in_force_at')::bigint FROM json_array_elements($3::json) j ON CONFLICT (version) DO UPDATE \
                   SET in_force_at = COALESCE(bundles.in_force_at, excluded.in_force_at)) \
               INSERT INTO settings (key, value) SELECT key, value FROM json_each_text($4::json) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
};
