-- A bundle may be kept that was never in force: a candidate is only tried. Its decisions name it, so that it stays readable.
ALTER TABLE bundles ADD COLUMN in_force_at BIGINT;    -- when it first came into force; null if it never did
UPDATE bundles SET in_force_at = created_at;
